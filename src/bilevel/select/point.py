"""All that rules ask of reconstructions at given weights, computed when it is first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap, cg
from bilevel.model import Variational
from bilevel.model.row_weighted import RowWeighted
from bilevel.solve import Solution

__all__ = ["Point"]


@dataclass(frozen=True)
class Point:
    """x_w of every row, its residual and its derivatives by log w and by y.

    ``index`` (b,) tells which rows of the batch these are. Derivatives come from linear systems
    with H = ∇²J(x_w), solved to the relative residual ``rtol`` by conjugate gradients (implicit
    function theorem).

    Example:
        >>> import bilevel as bl
        >>> from bilevel.select import Path
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> path = Path(energy, torch.ones(1, 1, 2, 2), accuracy=1e-6)
        >>> point = path.at(torch.ones(1).double())
        >>> point.degrees(torch.ones(1, 1, 2, 2))  # bᵀ(I + w I)⁻¹b
        tensor([2.], dtype=torch.float64)
    """

    energy: Variational
    objective: RowWeighted
    solution: Solution
    index: Tensor
    rtol: float = 1e-3

    @property
    def weight(self) -> Tensor:
        """w, (b,) float64."""
        return self.objective.weight

    @property
    def x(self) -> Tensor:
        """The reconstructions, (b, c, h, w)."""
        return self.solution.x

    @property
    def y(self) -> Tensor:
        """The data."""
        return self.objective.y

    @property
    def size(self) -> int:
        """m, the number of data of a row."""
        return self.y[0].numel()

    @cached_property
    def prediction(self) -> Tensor:
        """A x."""
        return self.energy.fidelity.operator(self.x)

    @cached_property
    def residual(self) -> Tensor:
        """A x - y."""
        return self.prediction - self.y

    @cached_property
    def misfit(self) -> Tensor:
        """‖A x - y‖², (b,) float64."""
        return self.residual.double().square().flatten(1).sum(1)

    @cached_property
    def penalty(self) -> Tensor:
        """R(x), (b,) float64."""
        return self.objective.penalty(self.x).double()

    @cached_property
    def hessian(self) -> LinearMap:
        """∇²J(x), linearised once."""
        return self.objective.hessian(self.x)

    @cached_property
    def slope(self) -> Tensor:
        """dx/dlog w = -H⁻¹ w ∇R(x)."""
        pull = self.objective.penalty_grad(self.x)
        return self.solve(-rows.expand(self.weight.to(pull), pull) * pull)

    def solve(self, rhs: Tensor) -> Tensor:
        """H⁻¹ rhs."""
        return cg(self.hessian, rhs, rtol=self.rtol).x

    def response(self, b: Tensor) -> Tensor:
        """(∂x/∂y) b = -H⁻¹ ∂_y(∇_xJ) b, for b like the data."""
        return self.solve(-self._pushed(b))

    def degrees(self, b: Tensor) -> Tensor:
        """bᵀ ∂(A x)/∂y b, (b,) float64; its mean over b with E bbᵀ = I is df = tr ∂(A x)/∂y."""
        return rows.inner(b.double(), self.energy.fidelity.operator(self.response(b)).double())

    def _pushed(self, b: Tensor) -> Tensor:
        """∂_y(∇_xΨ(A x; y)) b, by differentiating the transposed product."""
        with torch.enable_grad():
            y, q = self.y.detach().requires_grad_(), torch.zeros_like(self.x).requires_grad_()
            slope = self.energy.fidelity.grad(self.x.detach(), y)
            turned = torch.autograd.grad((slope * q).sum(), y, create_graph=True)[0]
            return torch.autograd.grad((turned * b).sum(), q)[0].detach()
