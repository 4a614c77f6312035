"""The lower level: solves rows from where they were left, and passes derivatives through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bilevel.data.samples import Rows
from bilevel.data.stores import Column, InMemory, Nowhere, Store, check_store
from bilevel.differentiate import Hypergradient, Upper, UpperGradient, automatic
from bilevel.differentiate.tangents import gauss_newton, tangents
from bilevel.ground.checks import check_count
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.budget import Ledger
from bilevel.learn.evaluation import Evaluation, pooled
from bilevel.model import Cost, Energy, Objective
from bilevel.solve import Solution, Solver, certify, minimise
from bilevel.solve.policy import LEARNING
from bilevel.solve.solvers import accelerated

__all__ = ["LowerLevel", "Memory", "UpperAt"]

UpperAt = Callable[[Theta, Tensor], Upper]
"""The upper level at θ of some rows."""


@dataclass(frozen=True)
class Memory(Packable):
    """Reconstructions and adjoints, those of one size each; none that were not asked for yet."""

    x: tuple[Tensor, ...]
    q: tuple[Tensor, ...]

    @property
    def finite(self) -> bool:
        """Whether all are numbers."""
        return all(bool(part.isfinite().all()) for part in (*self.x, *self.q))


class LowerLevel:
    """x_k(θ) = argmin_x J_θ(x; y_k) for all ``rows``, with what is remembered of them.

    Reconstructions and adjoints are kept by row and start the next solve; every gradient, HVP,
    operator application and second goes into ``ledger``. Problems that show others through
    themselves (samples, scaled ones) share it, with memory, cost and budget.

    Args:
        energy: J.
        rows: the data y_k.
        solver: Nesterov, L-BFGS, FISTA or PDHG, whichever fits, if None.
        hypergradient: the one that fits if None, implicit with CG unless there are dual terms.
        chunk: rows solved at once; memory grows with it.
        max_steps: limit of each solve.
        cost: what counts; samples unless it says otherwise.
        contrast: of the images [grey value]; of those behind the first rows if None.
        store: where reconstructions and adjoints are kept.

    Raises:
        InputError: a chunk below 1.

    Example:
        >>> import bilevel as bl
        >>> from bilevel.data.samples import Measured
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> level = LowerLevel(energy, Measured(torch.ones(1, 1, 4, 4)))
        >>> level.solve({}, torch.tensor([0]), 1e-6)[1].x.mean()
        tensor(0.5000)
    """

    def __init__(
        self,
        energy: Energy,
        rows: Rows,
        *,
        solver: Solver[Any] | None = None,
        hypergradient: Hypergradient | None = None,
        chunk: int = 64,
        max_steps: int = 20_000,
        cost: Cost | None = None,
        contrast: float | None = None,
        store: Store | None = None,
    ) -> None:
        check_count(chunk, "chunk")
        self.energy, self.rows = energy, rows
        self.first = rows.data(torch.tensor([0]))
        objective = self.example
        self.contrast = energy.contrast(self.first) if contrast is None else contrast
        self.solver: Solver[Any] = accelerated(objective) if solver is None else solver
        self.hypergradient = automatic(objective) if hypergradient is None else hypergradient
        self.chunk = chunk
        self.max_steps: int = max_steps
        self.ledger = Ledger(Cost() if cost is None else cost)
        store = InMemory() if store is None else check_store(store)
        self.x = Column(store, "x", rows, self._begin)
        self.q = Column(store, "q", rows, self._blank, blank=True)

    def _begin(self, index: Tensor) -> Tensor:
        """Where the first solve of those rows starts."""
        with torch.no_grad():
            return self.energy.start(self.rows.data(index)).detach()

    def _blank(self, index: Tensor) -> Tensor:
        """Adjoints that nothing is known of."""
        return torch.zeros_like(self._begin(index))

    @property
    def memory(self) -> Memory:
        """What the next solves start from, and write into."""
        return Memory(self.x.kept, self.q.kept)

    @memory.setter
    def memory(self, memory: Memory) -> None:
        self.x.restore(memory.x)
        self.q.restore(memory.q)

    @contextmanager
    def forgetting(self, max_steps: int) -> Generator[None]:
        """Solves of few steps that start anew, are not remembered and do not count."""
        before = self.x, self.q, self.max_steps, self.ledger.cost + Cost()
        nowhere = Nowhere()
        self.x, self.q = (Column(nowhere, c.name, self.rows, c.begin) for c in (self.x, self.q))
        self.max_steps = min(max_steps, self.max_steps)
        try:
            yield
        finally:
            self.x, self.q, self.max_steps, cost = before
            self.ledger.restart(cost)

    def at(self, theta: Theta, index: Tensor | None = None) -> Objective:
        """J_θ of the rows ``index``, of all if None, which must be of one size."""
        chosen = torch.arange(len(self.rows)) if index is None else index
        return self.energy.at(self.rows.data(chosen), theta, self.ledger.cost)

    @property
    def example(self) -> Objective:
        """J of the first row at the energy's own θ, to see of what kind it is; free."""
        return self.energy.at(self.first)

    def solve(self, theta: Theta, index: Tensor, tol: float) -> tuple[Objective, Solution]:
        """To rms ``tol`` [grey value], or to as small a ∇J where no distance of use is proved."""
        objective, stiffness = self.at(theta, index), self.energy.stiffness(self.contrast)
        goal = LEARNING.tolerance(objective, tol, dtype=self.first.dtype, stiffness=stiffness)
        solution = minimise(
            objective,
            self.solver,
            self.x.read(index),
            tol=goal,
            max_steps=self.max_steps,
            keep_state=self.hypergradient.needs_state,
        )
        self.x.write(index, solution.x)
        return objective, solution

    def look(
        self, theta: Theta, upper_at: UpperAt, tol: float, ids: Tensor | None
    ) -> tuple[Evaluation, Tensor]:
        """The losses of the rows, (K,), and their mean, without a gradient."""
        with self.ledger.metered():
            parts: list[Evaluation] = []
            found: list[Tensor] = []
            order: list[Tensor] = []
            for place, index in self.places(ids):
                lower, solution = self.solve(theta, index, tol)
                upper = upper_at(theta, index)
                upper.check(lower.image(solution.x))
                found.append(upper.double().value(solution.x.double()))
                parts.append(_looked(theta, tol, found[-1], solution))
                order.append(place)
            losses = torch.cat(found)[torch.cat(order).argsort()]
            mean = float(losses.mean())
            return replace(pooled(parts), value=mean, corrected=mean), losses

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
                    start=self.q.read(index),
                    estimate=estimate,
                )
                if found.linear is not None:
                    self.q.write(index, found.linear.x)
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
        for index in self.chunks(self.rows.few()):
            objective = self.at(theta, index)
            found = certify(objective, objective.start())
            far.append(torch.where(found.rms.isfinite(), found.rms, found.residual))
        mean = (fraction * torch.cat(far)).mean()
        return float(mean.clamp(1e-6 * self.contrast, fraction * size if size else None))

    def chunks(self, ids: Tensor | None) -> Iterator[Tensor]:
        """The rows ``ids``, all if None, of one size and as many at once as ``chunk`` says."""
        return (index for _, index in self.places(ids))

    def places(self, ids: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """As ``chunks``, with where they stand in ``ids``."""
        index = torch.arange(len(self.rows)) if ids is None else self.rows.numbers(ids)
        return ((place, index[place]) for place in self.rows.places(index, self.chunk))


def _looked(theta: Theta, accuracy: float, losses: Tensor, solution: Solution) -> Evaluation:
    """Of one chunk of samples, without a gradient."""
    return Evaluation.unproved(
        theta,
        float(losses.mean()),
        {},
        accuracy=accuracy,
        certificate=worst_distance(solution),
        uncertified=int((~solution.converged).sum()),
        samples=len(losses),
    )


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
