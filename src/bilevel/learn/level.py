"""The lower level: solves rows from where they were left, and passes derivatives through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bilevel.differentiate import Hypergradient, Upper, UpperGradient, automatic
from bilevel.differentiate.tangents import gauss_newton, tangents
from bilevel.ground.checks import check_count
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.budget import Ledger
from bilevel.learn.evaluation import Evaluation, pooled
from bilevel.model import Cost, Energy, Objective
from bilevel.solve import Solution, Solver, certify, minimise
from bilevel.solve.policy import LEARNING
from bilevel.solve.solvers import accelerated

__all__ = ["LowerLevel", "Memory", "UpperAt"]

FEW = 64
UpperAt = Callable[[Theta, Tensor], Upper]
"""The upper level at θ of some rows."""


@dataclass(frozen=True)
class Memory(Packable):
    """Reconstructions (None before the first solve) and adjoints of all rows."""

    x: Tensor | None
    q: Tensor


class LowerLevel:
    """x_k(θ) = argmin_x J_θ(x; y_k) for the rows of ``y``, with what is remembered of them.

    Reconstructions and adjoints are kept by row and start the next solve; every gradient, HVP,
    operator application and second goes into ``ledger``. Problems that show others through
    themselves (samples, scaled ones) share it, with memory, cost and budget.

    Args:
        energy: J.
        y: data, (K, c', h', w').
        solver: Nesterov, FISTA or PDHG, whichever fits, if None.
        hypergradient: the one that fits if None, implicit with CG unless there are dual terms.
        chunk: rows solved at once; memory grows with it.
        max_steps: limit of each solve.
        cost: what counts; samples unless it says otherwise.

    Raises:
        InputError: a chunk below 1.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> level = LowerLevel(energy, torch.ones(1, 1, 4, 4))
        >>> level.solve({}, torch.tensor([0]), 1e-6)[1].x.mean()
        tensor(0.5000)
    """

    def __init__(
        self,
        energy: Energy,
        y: Tensor,
        *,
        solver: Solver[Any] | None = None,
        hypergradient: Hypergradient | None = None,
        chunk: int = 64,
        max_steps: int = 20_000,
        cost: Cost | None = None,
        contrast: float | None = None,
    ) -> None:
        check_count(chunk, "chunk")
        self.energy, self.y = energy, y
        objective = self.example
        self.contrast = energy.contrast(y) if contrast is None else contrast
        self.solver: Solver[Any] = accelerated(objective) if solver is None else solver
        self.hypergradient = automatic(objective) if hypergradient is None else hypergradient
        self.chunk, self.max_steps = chunk, max_steps
        self.ledger = Ledger(Cost() if cost is None else cost)
        self.x: Tensor | None = None
        with torch.no_grad():
            self.q = torch.zeros_like(energy.start(y[:1])).repeat(len(y), 1, 1, 1)

    @property
    def memory(self) -> Memory:
        """What the next solves start from, and write into."""
        return Memory(self.x, self.q)

    @memory.setter
    def memory(self, memory: Memory) -> None:
        for part in (memory.q, memory.q if memory.x is None else memory.x):
            if part.shape != self.q.shape or part.dtype != self.q.dtype:
                given = f"{part.dtype} {tuple(part.shape)}"
                expected = f"the memory of a problem with images {tuple(self.q.shape)} is needed"
                raise InputError(
                    expected, given=given, advice="continue with the samples of the fit"
                )
        self.x, self.q = memory.x, memory.q

    def at(self, theta: Theta, index: Tensor | None = None) -> Objective:
        """J_θ of the rows ``index``, of all if None."""
        y = self.y if index is None else self.y[index]
        return self.energy.at(y, theta, self.ledger.cost)

    @property
    def example(self) -> Objective:
        """J of the first row at the energy's own θ, to see of what kind it is; free."""
        return self.energy.at(self.y[:1])

    def started(self) -> Tensor:
        """The last reconstructions, or where the first solve starts; not copied."""
        if self.x is None:
            self.x = self.energy.start(self.y).detach().clone()
        return self.x

    def solve(self, theta: Theta, index: Tensor, tol: float) -> tuple[Objective, Solution]:
        """To rms ``tol`` [grey value], or to as small a ∇J where no distance of use is proved."""
        objective, stiffness = self.at(theta, index), self.energy.stiffness(self.contrast)
        goal = LEARNING.tolerance(objective, tol, dtype=self.y.dtype, stiffness=stiffness)
        x = self.started()
        solution = minimise(
            objective,
            self.solver,
            x[index],
            tol=goal,
            max_steps=self.max_steps,
            keep_state=self.hypergradient.needs_state,
        )
        x[index] = solution.x
        return objective, solution

    def look(
        self, theta: Theta, upper_at: UpperAt, tol: float, ids: Tensor | None
    ) -> tuple[Evaluation, Tensor]:
        """The losses of the rows, (K,), and their mean, without a gradient."""
        with self.ledger.metered():
            parts: list[Tensor] = []
            worst, missed = 0.0, 0
            for index in self.chunks(ids):
                _, solution = self.solve(theta, index, tol)
                upper = upper_at(theta, index)
                upper.check(solution.x)
                parts.append(upper.double().value(solution.x.double()))
                worst = max(worst, worst_distance(solution))
                missed += int((~solution.converged).sum())
            losses = torch.cat(parts)
            found = Evaluation.unproved(
                theta,
                float(losses.mean()),
                {},
                accuracy=tol,
                certificate=worst,
                uncertified=missed,
                samples=len(losses),
            )
            return found, losses

    def value_and_grad(
        self, theta: Theta, upper_at: UpperAt, tol: float, ids: Tensor | None, estimate: bool
    ) -> Evaluation:
        """The mean loss and its derivative through x, with errors."""
        with self.ledger.metered():
            parts: list[Evaluation] = []
            for index in self.chunks(ids):
                objective, solution = self.solve(theta, index, tol)
                found = self.hypergradient(
                    objective,
                    upper_at(theta, index),
                    solution,
                    start=self.q[index],
                    estimate=estimate,
                )
                if found.linear is not None:
                    self.q[index] = found.linear.x
                parts.append(_mean(theta, tol, found, solution))
            return pooled(parts)

    def gauss_newton(
        self, theta: Theta, upper_at: UpperAt, tol: float, rtol: float, ids: Tensor | None
    ) -> Tensor:
        """Mean of Sᵀ ∇²ℓ S over the rows with S = dx/dθ, (p, p) float64."""
        with self.ledger.metered():
            total, count = torch.zeros(()), 0
            for index in self.chunks(ids):
                objective, solution = self.solve(theta, index, tol)
                slopes = tangents(objective, solution.x, rtol=rtol)
                total = total + gauss_newton(upper_at(theta, index), solution.x, slopes)
                count += len(index)
            return total / count

    def first_accuracy(self, theta: Theta, fraction: float, size: float) -> float:
        """``fraction`` of the mean certificate at the start.

        From 1e-6 of the contrast to ``fraction`` · ``size``.

        Of the first 64 rows, however many are solved at once. ``size`` is that of the images
        [grey value]; 0 for no upper limit.
        """
        far: list[Tensor] = []
        for index in self.chunks(self.few()):
            objective = self.at(theta, index)
            found = certify(objective, objective.start())
            far.append(torch.where(found.rms.isfinite(), found.rms, found.residual))
        mean = (fraction * torch.cat(far)).mean()
        return float(mean.clamp(1e-6 * self.contrast, fraction * size if size else None))

    def few(self) -> Tensor:
        """The first 64 rows: what scales are measured on, whatever the chunk."""
        return torch.arange(min(len(self.y), FEW))

    def chunks(self, ids: Tensor | None) -> Iterator[Tensor]:
        """The rows ``ids``, all if None, as many at once as ``chunk`` says."""
        index = torch.arange(len(self.y)) if ids is None else ids
        return iter(torch.split(index, self.chunk))


def _mean(theta: Theta, accuracy: float, found: UpperGradient, solution: Solution) -> Evaluation:
    """Of one chunk of samples."""
    converged = solution.converged
    if found.linear is not None:
        converged = converged & found.linear.converged
    return Evaluation(
        theta=theta,
        accuracy=accuracy,
        value=float(found.value.mean()),
        corrected=float(found.corrected.mean()),
        interval=float(found.interval.mean()),
        interval_estimate=float(found.interval_estimate.mean()),
        grad=found.grad,
        error=found.bound,
        estimate=found.estimate,
        certificate=worst_distance(solution),
        uncertified=int((~converged).sum()),
        unsolved=int(found.unsolved.sum()),
        samples=len(found.value),
    )


def worst_distance(solution: Solution) -> float:
    """The largest certified rms distance of a row; inf where one is not proved."""
    return float(solution.certificate.rms.nan_to_num(math.inf, math.inf).max())
