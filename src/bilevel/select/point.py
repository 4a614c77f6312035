"""All that rules ask of reconstructions at given weights, computed when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model import Variational
from bilevel.model.kinds import has_dual
from bilevel.model.objective import Objective
from bilevel.model.row_weighted import RowWeighted
from bilevel.model.smooth import Smooth, SmoothSum
from bilevel.risk.held import seen
from bilevel.risk.noise import gradient_of
from bilevel.select.moves import Moves, moves_of
from bilevel.select.trail import Trail
from bilevel.solve import Solution, minimise
from bilevel.solve.policy import CHOOSING
from bilevel.solve.solvers import frugal

__all__ = ["Point"]

PROBES = 16
"""Responses of more probes than these are not remembered."""
TOGETHER = 2**18
"""So many grey values at most are solved for at once."""


@dataclass(frozen=True)
class Point:
    """x_w of every row, its residual and its derivatives by log w and by y.

    ``index`` (b,) tells which rows of the batch these are. Derivatives come from linear systems
    solved to the relative residual ``rtol``: with H = ∇²J(x_w), and where J has kinks on the piece
    of it that x_w lies on (:class:`~bilevel.select.moves.Moves`).

    Example:
        >>> import bilevel as bl
        >>> from bilevel.select import Path
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> path = Path(energy, torch.ones(1, 1, 2, 2), accuracy=1e-6)
        >>> point = path.at(torch.ones(1).double())
        >>> next(point.responses(torch.ones(1, 1, 2, 2))).flatten()  # (I + w I)⁻¹b
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    weighted: RowWeighted
    weight: Tensor
    """w, (b,) float64."""
    objective: Objective
    solution: Solution
    index: Tensor
    rtol: float = 1e-3
    trails: Mapping[int, Trail] | None = None
    """Responses at other weights by the place of their probe, as starts: x_w without them."""

    @property
    def energy(self) -> Variational:
        """Ψ and R."""
        return self.weighted.energy

    @property
    def x(self) -> Tensor:
        """The reconstructions, (b, c, h, w)."""
        return self.solution.x

    @property
    def y(self) -> Tensor:
        """The data."""
        return self.objective.y

    @cached_property
    def seen(self) -> Tensor:
        """The data that A reaches, (c', h', w') bool."""
        return seen(self.energy.fidelity.operator, self.x)

    @cached_property
    def size(self) -> int:
        """m, the number of data seen of a row."""
        return int(self.seen.sum())

    @cached_property
    def prediction(self) -> Tensor:
        """A x."""
        return self.energy.fidelity.operator(self.x)

    @cached_property
    def residual(self) -> Tensor:
        """A x - y, 0 where nothing is seen."""
        return self.seen * (self.prediction - self.y)

    @cached_property
    def fine_residual(self) -> Tensor:
        """A x - y of a better x: as good where it is smaller than the accuracy of x.

        After one more Newton step, or of the image that dual variables give. For criteria that
        divide by the residual: where x is still the data it started from, a residual of 0 would
        look like the best of all.
        """
        return self.residual - self.energy.fidelity.operator(self.moves.correction())

    @cached_property
    def fine_misfit(self) -> Tensor:
        """‖A x - y‖² of the same, (b,) float64."""
        return self.fine_residual.double().square().flatten(1).sum(1)

    @cached_property
    def misfit(self) -> Tensor:
        """‖A x - y‖², (b,) float64."""
        return self.residual.double().square().flatten(1).sum(1)

    @cached_property
    def penalty(self) -> Tensor:
        """R(x), (b,) float64."""
        with torch.no_grad():
            return self.energy.regulariser.forward(self.x).double()

    @cached_property
    def moves(self) -> Moves:
        """How x answers to forces, linearised once."""
        return moves_of(self.objective, self.solution, self.rtol)

    @cached_property
    def drive(self) -> Tensor:
        """w ∇R(x), the force by log w; of terms with kinks, on the piece that x lies on."""
        gradient_of(self.energy, self.y)  # all that has none is part of R
        parts = [f for f in self.weighted.penalty(self.y) if isinstance(f, Smooth)]
        with torch.no_grad():
            pull = SmoothSum(tuple(parts)).grad(self.x)
            return rows.expand(self.weight.to(pull), pull) * pull + self.moves.kinked()

    @cached_property
    def slope(self) -> Tensor:
        """dx/dlog w = -H⁻¹ w ∇R(x)."""
        return self.slope_near(None)

    def slope_near(self, start: Tensor | None) -> Tensor:
        """The same, from a start that is known."""
        return self.solve(-self.drive, start)

    @cached_property
    def prediction_slope(self) -> Tensor:
        """d(A x)/dlog w."""
        return self.energy.fidelity.operator(self.slope)

    @cached_property
    def misfit_slope(self) -> Tensor:
        """d‖A x - y‖²/dlog w, (b,) float64."""
        return 2 * rows.inner(self.residual.double(), self.prediction_slope.double())

    @cached_property
    def penalty_slope(self) -> Tensor:
        """dR(x)/dlog w, (b,) float64."""
        return rows.inner(self.drive.double(), self.slope.double()) / self.weight

    def moved(self, y: Tensor, residual: float, rtol: float) -> Point:
        """The point at other data and the same weights.

        Args:
            y: the data, like those here.
            residual: rms that ∇J is brought to, from x on [that of ∇J].
            rtol: of the linear systems there.
        """
        objective = self.weighted.at(y, cost=self.objective.cost)
        solver, tol = frugal(objective), CHOOSING.as_near(objective, residual)
        kept = has_dual(objective)
        solution = minimise(objective, solver, self.x, tol=tol, keep_state=kept)
        return replace(self, objective=objective, solution=solution, rtol=rtol, trails=None)

    def solve(self, force: Tensor, start: Tensor | None = None) -> Tensor:
        """H⁻¹ f, as :class:`~bilevel.select.moves.Moves` tells."""
        return self.moves.solve(force, rtol=self.rtol, start=start)

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """What others computed at this point and may need again."""
        return {}

    def responses(self, probes: Tensor) -> Iterator[Tensor]:
        """(∂x/∂y) b = -H⁻¹ ∂_y(∇_xJ) b of each probe b, (n, c', h', w') -> (b, c, h, w) each.

        Systems of many small images are solved together.
        """
        count, log = len(self.y), self.weight.log()
        most = max(1, TOGETHER // self.x.numel())
        trails = self.trails if self.trails is not None and len(probes) <= PROBES else None
        for first in range(0, len(probes), most):
            part = probes[first : first + most]
            places = range(first, first + len(part))
            force = -self.pushed(part.repeat_interleave(count, 0))
            moves = self.moves.rows(torch.arange(count).repeat(len(part)))
            start = None
            if trails is not None:
                nothing = torch.zeros_like(self.x)
                start = torch.cat([trails[k].at(log, self.index, nothing) for k in places])
            moved = moves.solve(force, rtol=self.rtol, start=start)
            found = moved.view(len(part), *self.x.shape)
            for k, response in zip(places, found, strict=True):
                if trails is not None:
                    trails[k].add(log, self.index, response)
                yield response

    def pushed(self, b: Tensor) -> Tensor:
        """∂_y(∇_xJ) b, for one or several b for each row, by differentiating the transpose."""
        times = len(b) // len(self.y)
        x, data = self.x.repeat(times, 1, 1, 1), self.y.repeat(times, 1, 1, 1)
        with torch.enable_grad():
            y, q = data.detach().requires_grad_(), torch.zeros_like(x).requires_grad_()
            slope = gradient_of(self.weighted.energy, y).grad(x.detach())
            turned = torch.autograd.grad((slope * q).sum(), y, create_graph=True)[0]
            return torch.autograd.grad((turned * b).sum(), q)[0].detach()
