"""A bilevel problem: all that an upper-level algorithm sees."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bilevel.data import Pairs
from bilevel.differentiate import Hypergradient, Upper, automatic
from bilevel.differentiate.tangents import gauss_newton, tangents
from bilevel.ground.checks import check_matching
from bilevel.ground.contrast import contrast, spread
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta, learnable
from bilevel.learn.budget import Budget
from bilevel.learn.directions import Directions, Draw, Iterates, Slopes
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.total import Total, worst_distance
from bilevel.model import Cost, Energy, Objective, space_of
from bilevel.model.energy import EnergyObjective
from bilevel.model.losses import Loss
from bilevel.solve import Solution, Solver, certify, minimise
from bilevel.solve.policy import LEARNING
from bilevel.solve.solvers import accelerated

__all__ = ["BilevelProblem", "BudgetExhausted", "Memory"]


class BudgetExhausted(Exception):
    """Raised before an evaluation that the budget has no room for."""


@dataclass(frozen=True)
class Memory(Packable):
    """Reconstructions (None before the first solve) and adjoints of all samples."""

    x: Tensor | None
    q: Tensor


class BilevelProblem:
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
        if chunk < 1:
            raise InputError("chunk must be at least 1", given=chunk)
        energy.check(pairs.y)
        self.contrast = contrast(pairs.target)
        energy.settle(pairs.y, self.contrast)
        self.theta: Theta = learnable(energy)
        if not self.theta:
            advice = "e.g. TotalVariation(..., learn=('weight',))"
            raise InputError("the energy has no learnable parameter", advice=advice)
        check_matching(pairs.target, "pairs.target", pairs.y, "pairs.y")
        expected = energy.start(pairs.y[:1]).shape[1:]
        if pairs.target.shape[1:] != expected:
            given = tuple(pairs.target.shape[1:])
            raise InputError(f"targets must have shape (c, h, w) = {tuple(expected)}", given=given)
        self.energy, self.loss, self.pairs = energy, loss.fitted(pairs.target), pairs
        self.sought: Energy = energy
        """What θ is learned for, the energy of a fit: another one only where data are held out."""
        objective = energy.at(pairs.y[:1])
        self.solver: Solver[Any] = accelerated(objective) if solver is None else solver
        self.hypergradient = automatic(objective) if hypergradient is None else hypergradient
        self.chunk, self.max_steps = chunk, max_steps
        self.space = space_of(energy)
        self.cost = Cost()
        self.budget: Budget | None = None
        self._clock: float | None = None
        self._x: Tensor | None = None
        self._q = torch.zeros_like(pairs.target)

    def __len__(self) -> int:
        """Number of samples K."""
        return len(self.pairs)

    def value(self, theta: Theta, *, tol: float, ids: Tensor | None = None) -> float:
        """Mean loss at reconstructions of accuracy ``tol`` (rms, [grey value])."""
        return float(self.values(theta, tol=tol, ids=ids).mean())

    def values(self, theta: Theta, *, tol: float, ids: Tensor | None = None) -> Tensor:
        """Loss of every sample, (K,)."""
        return self.look(theta, tol=tol, ids=ids)[1]

    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """As ``value_and_grad`` without a gradient, and the loss of every sample, (K,)."""
        with self.metered():
            parts: list[Tensor] = []
            worst, missed = 0.0, 0
            for index in self._chunks(ids):
                _, solution = self._solve(theta, index, tol)
                upper = self.upper_at(theta, index)
                upper.check(solution.x)
                parts.append(upper.double().value(solution.x.double()))
                worst = max(worst, worst_distance(solution))
                missed += int((~solution.converged).sum())
            losses = torch.cat(parts)
            mean = float(losses.mean())
            return Evaluation(
                theta=theta,
                accuracy=tol,
                value=mean,
                corrected=mean,
                interval=math.inf,
                interval_estimate=math.inf,
                grad={},
                error=math.inf,
                estimate=math.nan,
                certificate=worst,
                uncertified=missed,
                unsolved=0,
                samples=len(losses),
            ), losses

    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """Loss and hypergradient at lower-level accuracy ``tol`` (rms, [grey value]), with errors.

        Where no strong convexity of use is proved, ``tol`` bounds the rms of ∇J instead.
        ``estimate`` adds an estimate of the gradient's true error, at some extra cost.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """
        with self.metered():
            total = Total(theta, tol)
            for index in self._chunks(ids):
                objective, solution = self._solve(theta, index, tol)
                upper, start = self.upper_at(theta, index), self._q[index]
                found = self.hypergradient(
                    objective, upper, solution, start=start, estimate=estimate
                )
                if found.linear is not None:
                    self._q[index] = found.linear.x
                total.add(found, solution)
            return total.mean()

    def gauss_newton(
        self, theta: Theta, *, tol: float, rtol: float = 1e-6, ids: Tensor | None = None
    ) -> Tensor:
        """Mean of Sᵀ ∇²ℓ S over the samples with S = dx/dθ, (p, p) float64: for few parameters.

        The systems of S are solved to the relative residual ``rtol``.

        Raises:
            InputError: an energy that has no second derivatives.
        """
        with self.metered():
            total = torch.zeros(())
            for index in self._chunks(ids):
                objective, solution = self._solve(theta, index, tol)
                slopes = tangents(objective, solution.x, rtol=rtol)
                total = total + gauss_newton(self.upper_at(theta, index), solution.x, slopes)
            return total / (len(self) if ids is None else len(ids))

    def first_accuracy(self, theta: Theta, fraction: float = 0.02) -> float:
        """An accuracy to start from [grey value]: ``fraction`` of the certificate at the start.

        Between 1e-6 of the targets' contrast and ``fraction`` times twice their deviation from
        their means, or their rms where these are flat.
        """
        index = torch.arange(min(len(self), self.chunk))
        objective = self.energy.at(self.pairs.y[index], theta, self.cost)
        found = certify(objective, objective.start())
        far = torch.where(found.rms.isfinite(), found.rms, found.residual)
        shown = self.pairs.target[index].double()
        size = 2 * float(spread(shown).mean()) or float(shown.square().mean().sqrt())
        least = 1e-6 * self.contrast
        return float((fraction * far).mean().clamp(least, fraction * size if size else None))

    @cached_property
    def fingerprint(self) -> str:
        """Of ids, data and targets: the same for the same samples."""
        digest = hashlib.sha256("\x1f".join(self.pairs.ids).encode())
        for part in (self.pairs.y, self.pairs.target):
            digest.update(part.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def memory(self) -> Memory:
        """What the next solves start from, and write into."""
        return Memory(self._x, self._q)

    @memory.setter
    def memory(self, memory: Memory) -> None:
        fits = memory.q.shape == self._q.shape and memory.q.dtype == self._q.dtype
        if not fits:
            given = f"{memory.q.dtype} {tuple(memory.q.shape)}"
            expected = f"the memory of a problem with targets {tuple(self._q.shape)} is needed"
            raise InputError(expected, given=given, advice="continue with the samples of the fit")
        self._x, self._q = memory.x, memory.q

    @property
    def counts(self) -> tuple[int, int]:
        """How many samples the lower and the upper level have."""
        return len(self), len(self)

    @property
    def separable(self) -> bool:
        """Whether each sample has its own x, so that D_x and D_v are exact for the rows drawn."""
        return True

    def iterates(self, theta: Theta) -> Iterates:
        """Where single-loop algorithms begin: the last reconstructions, and v = 0."""
        del theta
        x = self.energy.start(self.pairs.y) if self._x is None else self._x
        return Iterates(x.detach().clone(), torch.zeros_like(x))

    def lipschitz(self, theta: Theta, rows: Tensor | None = None) -> Tensor:
        """L of the lower level, one value for each of the ``rows`` of the iterates, all if None.

        Raises:
            InputError: the energy declares none.
        """
        y = self.pairs.y if rows is None else self.pairs.y[rows]
        bounds = self.energy.at(y, theta, self.cost).bounds
        if not bounds.smooth:
            advice = "use an algorithm that solves the lower level, e.g. MAID"
            raise InputError("single-loop algorithms need a Lipschitz constant", advice=advice)
        return bounds.lipschitz

    def directions(self, theta: Theta, at: Iterates, draw: Draw) -> Directions:
        """D_x, D_v and D_θ for the samples drawn, whose rows of x and v they belong to.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """
        with self.metered():
            rows, upper = draw.inner, self.upper_at(theta, draw.inner)
            objective = smooth(self.energy.at(self.pairs.y[rows], theta, self.cost))
            x, v = at.x[rows], at.v[rows]
            slope, bent, cross = objective.tangent(x, v)
            mean = {name: value / len(rows) for name, value in cross.items()}
            value = float(upper.value(x).double().mean())
            return Directions(slope, bent + upper.grad(x), mean, value, rows)

    def rows(self, draw: Draw) -> Tensor:
        """The rows of the iterates that a draw concerns."""
        return draw.inner if self.separable else torch.tensor([0])

    def slope(self, theta: Theta, x: Tensor, draw: Draw) -> Tensor:
        """∇_xJ alone, as in :meth:`slopes`."""
        with self.metered():
            return smooth(self.energy.at(self.pairs.y[draw.inner], theta, self.cost)).grad(x)

    def slopes(self, theta: Theta, x: Tensor, draw: Draw) -> Slopes:
        """First derivatives of both levels at ``x``, the rows of the draw, (b, c, h, w).

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """
        with self.metered():
            upper = self.upper_at(theta, draw.inner)
            objective = smooth(self.energy.at(self.pairs.y[draw.inner], theta, self.cost))
            cross = objective.theta_grad(x, torch.full_like(x[:, 0, 0, 0], 1 / len(x)))[1]
            zero = {name: torch.zeros_like(value) for name, value in theta.items()}
            value = float(upper.value(x).double().mean())
            return Slopes(objective.grad(x), cross, upper.grad(x), zero, value)

    def reached(self, at: Evaluation) -> bool:
        """Whether learning should go no further; False unless overridden."""
        del at
        return False

    def _solve(self, theta: Theta, index: Tensor, tol: float) -> tuple[Objective, Solution]:
        objective = self.energy.at(self.pairs.y[index], theta, self.cost)
        dtype, stiffness = self.pairs.y.dtype, self.energy.stiffness(self.contrast)
        goal = LEARNING.tolerance(objective, tol, dtype=dtype, stiffness=stiffness)
        if self._x is None:
            self._x = self.energy.start(self.pairs.y).detach().clone()
        start = self._x[index]
        solution = minimise(
            objective,
            self.solver,
            start,
            tol=goal,
            max_steps=self.max_steps,
            keep_state=self.hypergradient.needs_state,
        )
        self._x[index] = solution.x
        return objective, solution

    def lower_at(self, theta: Theta, index: Tensor) -> Objective:
        """The lower level of the samples ``index`` at θ."""
        return self.energy.at(self.pairs.y[index], theta, self.cost)

    def some(self, count: int) -> Tensor:
        """About ``count`` samples whose mean stands for that of all."""
        return torch.arange(min(len(self), count))

    def upper_at(self, theta: Theta, index: Tensor) -> Upper:
        """The loss of the samples ``index`` at θ, as a function of their x."""
        del theta
        return Upper(self.loss, self.pairs.target[index])

    def _chunks(self, ids: Tensor | None) -> Iterator[Tensor]:
        index = torch.arange(len(self)) if ids is None else ids
        return iter(torch.split(index, self.chunk))

    @contextmanager
    def metered(self) -> Generator[None]:
        """Counts the seconds spent inside, whatever is metered within once.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """
        outer, start = self._clock, time.perf_counter()
        self._tick(start)
        try:
            if self.budget is not None and self.budget.exceeded(self.cost):
                raise BudgetExhausted
            yield
        finally:
            self._tick(time.perf_counter())
            if outer is None:
                self._clock = None

    def _tick(self, now: float) -> None:
        if self._clock is not None:
            self.cost.seconds += now - self._clock
        self._clock = now


def smooth(objective: Objective) -> EnergyObjective:
    """The objective, if it has a gradient and second derivatives.

    Raises:
        InputError: it has none.
    """
    if not isinstance(objective, EnergyObjective):
        advice = "use Tikhonov and smoothed terms, or an algorithm that solves the lower level"
        raise InputError("single-loop algorithms need a smooth energy", advice=advice)
    return objective
