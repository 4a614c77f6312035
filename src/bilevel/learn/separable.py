"""Bilevel problems whose samples have an x of their own; among them the one with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bilevel.data import Pairs
from bilevel.differentiate import Hypergradient, Upper
from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_matching
from bilevel.ground.contrast import contrast, spread
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind, learnable
from bilevel.learn.directions import Directions, Draw, Iterates, Slopes
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.identity import Identity, facts, fingerprint, nearby
from bilevel.learn.level import LowerLevel
from bilevel.learn.problem import Facts, OwnProblem, smooth
from bilevel.model import Energy, space_of
from bilevel.model.losses import Loss, Scale
from bilevel.solve import Solver

__all__ = ["BilevelProblem", "Penalty", "SeparableProblem"]

Penalty = Callable[[Theta], tuple[float, Theta]]
"""A term of the upper level in θ alone, exact: its value and its derivative."""


class SeparableProblem(OwnProblem):
    """min_θ 1/K Σ_k ℓ_k(x_k(θ)) + penalty(θ) with x_k(θ) = argmin_x J_θ(x; y_k).

    Args:
        level: solves the K rows.
        upper: the ℓ_k of all rows, whose targets say how large images are.
        loss: what their values mean.
        sought: what θ is learned for.
        ids: names of the rows.
        penalty: none unless given.
        about: what else makes it another problem than others, by name.
    """

    def __init__(
        self,
        level: LowerLevel,
        upper: Upper,
        loss: Scale,
        sought: Energy,
        ids: tuple[str, ...],
        penalty: Penalty | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        theta, count = learnable(level.energy), len(level.y)
        if not theta:
            advice = "e.g. TotalVariation(..., learn=('weight',))"
            raise InputError("the energy has no learnable parameter", advice=advice)
        space = space_of(level.energy)
        counts = count, count
        super().__init__(Facts(level, theta, space, loss, sought, counts, separable=True))
        self.energy, self.ids = level.energy, ids
        self._upper, self._penalty, self._about = upper, penalty, dict(about or {})

    def __len__(self) -> int:
        """Number of samples K."""
        return len(self.ids)

    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """As ``value_and_grad`` without a gradient, and the loss of every sample, (K,)."""
        found, losses = self.level.look(theta, self.upper_at, tol, ids)
        if self._penalty is None:
            return found, losses
        more, _ = self._penalty(theta)
        raised = replace(found, value=found.value + more, corrected=found.corrected + more)
        return raised, losses + more

    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """Loss and hypergradient, with errors; see :class:`~bilevel.learn.problem.Problem`."""
        found = self.level.value_and_grad(theta, self.upper_at, tol, ids, estimate)
        if self._penalty is None:
            return found
        more, slope = self._penalty(theta)
        return replace(
            found,
            value=found.value + more,
            corrected=found.corrected + more,
            grad=algebra.add(found.grad, slope),
        )

    def gauss_newton(
        self, theta: Theta, *, tol: float, rtol: float = 1e-6, ids: Tensor | None = None
    ) -> Tensor:
        """Mean of Sᵀ ∇²ℓ S over the samples, (p, p) float64; without the penalty."""
        return self.level.gauss_newton(theta, self.upper_at, tol, rtol, ids)

    def first_accuracy(self, theta: Theta, fraction: float = 0.02) -> float:
        """``fraction`` of the certificate at the start [grey value], on the first 64 samples."""
        shown = self._upper.target[self.level.few()].double()
        size = 2 * float(spread(shown).mean()) or float(shown.square().mean().sqrt())
        return self.level.first_accuracy(theta, fraction, size)

    def identity(self, theta: Theta) -> Identity:
        """By energy, loss, sets and samples, and both levels at the first sample."""
        with torch.no_grad():
            energy, y = bind(self.energy, theta), self.level.y[:1]
            x = nearby(energy.start(y))
            lower = float(energy.forward(x, y))
            first = torch.tensor([0], device=x.device)
            upper = float(self.upper_at(theta, first).value(x))
        parts = {"loss": self.loss, "sets": self.space.sets, **self._about}
        found = facts(bind(self.sought, theta), "energy")
        for name, value in parts.items():
            found |= facts(value, name)
        return Identity(found, self.fingerprint, lower, upper)

    @cached_property
    def fingerprint(self) -> str:
        """Of ids, data and targets: the same for the same samples."""
        return fingerprint(self.ids, self.level.y, self._upper.target)

    def lipschitz(self, theta: Theta, rows: Tensor | None = None) -> Tensor:
        """L of the lower level, one value a row.

        Raises:
            InputError: the energy declares none.
        """
        bounds = self.level.at(theta, rows).bounds
        if not bounds.smooth:
            advice = "use an algorithm that solves the lower level, e.g. MAID"
            raise InputError("single-loop algorithms need a Lipschitz constant", advice=advice)
        return bounds.lipschitz

    def rows(self, draw: Draw) -> Tensor:
        """Those of the samples drawn."""
        return draw.inner

    def directions(self, theta: Theta, at: Iterates, draw: Draw) -> Directions:
        """D_x, D_v and D_θ for the samples drawn, exact but for the mean."""
        with self.metered():
            rows, upper = draw.inner, self.upper_at(theta, draw.inner)
            x, v = at.x[rows], at.v[rows]
            slope, bent, cross = smooth(self.level.at(theta, rows)).tangent(x, v)
            mean = {name: value / len(rows) for name, value in cross.items()}
            value = float(upper.value(x).double().mean())
            if self._penalty is not None:
                more, steep = self._penalty(theta)
                mean, value = algebra.add(mean, steep), value + more
            return Directions(slope, bent + upper.grad(x), mean, value, rows)

    def slope(self, theta: Theta, x: Tensor, draw: Draw) -> Tensor:
        """∇_xJ alone, as in :meth:`slopes`."""
        with self.metered():
            return smooth(self.level.at(theta, draw.inner)).grad(x)

    def slopes(self, theta: Theta, x: Tensor, draw: Draw) -> Slopes:
        """First derivatives of both levels at ``x``, the rows of the draw, (b, c, h, w)."""
        with self.metered():
            upper = self.upper_at(theta, draw.inner)
            objective = smooth(self.level.at(theta, draw.inner))
            cross = objective.theta_grad(x, torch.full_like(x[:, 0, 0, 0], 1 / len(x)))[1]
            direct = {name: torch.zeros_like(value) for name, value in theta.items()}
            value = float(upper.value(x).double().mean())
            if self._penalty is not None:
                more, direct = self._penalty(theta)
                value = value + more
            return Slopes(objective.grad(x), cross, upper.grad(x), direct, value)

    def upper_at(self, theta: Theta, index: Tensor) -> Upper:
        """The loss of the samples ``index``, as a function of their x."""
        del theta
        return self._upper.rows(index)


class BilevelProblem(SeparableProblem):
    """min_θ 1/K Σ_k ℓ(x_k(θ), target_k) with x_k(θ) = argmin_x J_θ(x; y_k).

    Reconstructions and adjoints are kept by sample and start the next solve; every gradient,
    HVP, operator application and second is counted in ``cost``.

    Args:
        energy: J; its parameters with ``requires_grad`` are learned.
        loss: ℓ.
        pairs: data and targets.
        solver: of the lower level; Nesterov, FISTA or PDHG, whichever fits, if None.
        hypergradient: the one that fits if None, implicit with CG unless there are dual terms.
        chunk: samples solved at once; memory grows with it.
        max_steps: limit of each lower-level solve.

    Raises:
        InputError: pairs that do not fit the energy, or nothing to learn.

    Example:
        >>> import bilevel as bl
        >>> pairs = bl.data.Pairs(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ("one",))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> round(problem.value_and_grad(problem.theta, tol=1e-6).value, 4)
        0.25
    """

    def __init__(
        self,
        energy: Energy,
        loss: Loss,
        pairs: Pairs,
        *,
        solver: Solver[Any] | None = None,
        hypergradient: Hypergradient | None = None,
        chunk: int = 64,
        max_steps: int = 20_000,
    ) -> None:
        """Check everything before any work starts."""
        energy.check(pairs.y)
        grey = contrast(pairs.target)
        energy.settle(pairs.y, grey)
        check_matching(pairs.target, "pairs.target", pairs.y, "pairs.y")
        expected = energy.image(energy.at(pairs.y[:1]).start()).shape[1:]
        if pairs.target.shape[1:] != expected:
            given = tuple(pairs.target.shape[1:])
            raise InputError(f"targets must have shape (c, h, w) = {tuple(expected)}", given=given)
        level = LowerLevel(
            energy,
            pairs.y,
            solver=solver,
            hypergradient=hypergradient,
            chunk=chunk,
            max_steps=max_steps,
            contrast=grey,
        )
        fitted = loss.fitted(pairs.target)
        super().__init__(level, Upper(fitted, pairs.target), fitted, energy, pairs.ids)
        self.loss: Loss = fitted
        self.pairs = pairs
