"""A problem seen through some of its samples, and how far its gradient is from that of all."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.data.samples import FEW
from bilevel.ground.randomness import generator
from bilevel.ground.theta import Theta, flatten
from bilevel.learn.evaluation import Evaluation, pooled
from bilevel.learn.identity import Identity
from bilevel.learn.problem import Problem

__all__ = ["Nested", "Sample"]

BLOCKS = 8


class Sample(Problem):
    """The mean over the samples ``ids`` of ``whole``: their warm starts, cost and budget are its.

    Gradients come from up to eight blocks, whose scatter tells the variance: no sample is solved
    twice for it. A single block is faster, and tells nothing: its variance counts as 0.

    Args:
        whole: with an x for each sample.
        ids: which samples, (n,).
        blocks: how many at most.

    Example:
        >>> import bilevel as bl
        >>> pairs = bl.data.Pairs(torch.rand(4, 1, 4, 4), torch.rand(4, 1, 4, 4), tuple("abcd"))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> found = Sample(problem, torch.tensor([0, 2])).value_and_grad(problem.theta, tol=1e-3)
        >>> found.samples, found.variance > 0
        (2, True)
    """

    def __init__(self, whole: Problem, ids: Tensor, blocks: int = BLOCKS) -> None:
        super().__init__(whole.facts)
        self.whole, self.ids, self.blocks = whole, ids, blocks

    def __len__(self) -> int:
        """Number of samples n."""
        return len(self.ids)

    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """As of the whole problem, block by block.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """
        chosen = self._chosen(ids)
        blocks = torch.tensor_split(chosen, min(self.blocks, len(chosen)))
        whole = self.whole.value_and_grad
        parts = [whole(theta, tol=tol, ids=block, estimate=estimate) for block in blocks]
        mean = pooled(parts)
        spread = 0.0
        for part in parts:
            away = flatten(part.grad) - flatten(mean.grad)
            spread += part.samples * float(away @ away)
        variance = spread / (len(parts) - 1) if len(parts) > 1 else 0.0
        return replace(mean, variance=variance)

    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """As of the whole problem."""
        return self.whole.look(theta, tol=tol, ids=self._chosen(ids))

    def gauss_newton(
        self, theta: Theta, *, tol: float, rtol: float = 1e-6, ids: Tensor | None = None
    ) -> Tensor:
        """As of the whole problem, (p, p)."""
        return self.whole.gauss_newton(theta, tol=tol, rtol=rtol, ids=self._chosen(ids))

    def first_accuracy(self, theta: Theta, fraction: float = 0.02) -> float:
        """That of the whole problem [grey value]."""
        return self.whole.first_accuracy(theta, fraction)

    def few(self) -> Tensor:
        """The first 64 of these."""
        return torch.arange(min(len(self), FEW))

    def reached(self, at: Evaluation) -> bool:
        """As the whole problem."""
        return self.whole.reached(at)

    def price(self, theta: Theta) -> float:
        """As the whole problem."""
        return self.whole.price(theta)

    def outward(self, theta: Theta) -> Theta:
        """As the whole problem."""
        return self.whole.outward(theta)

    def identity(self, theta: Theta) -> Identity:
        """That of the whole problem, and which samples."""
        return self.whole.identity(theta).also("samples drawn", self.ids)

    def _chosen(self, ids: Tensor | None) -> Tensor:
        return self.ids if ids is None else self.ids[ids]


@dataclass(frozen=True)
class Nested:
    """Samples of every size: each holds the smaller ones, in a random order that ``seed`` gives.

    Example:
        >>> Nested(seed=0).order(4).sort().values
        tensor([0, 1, 2, 3])
    """

    seed: int
    blocks: int = BLOCKS

    def order(self, count: int) -> Tensor:
        """Of all samples, (count,)."""
        return torch.randperm(count, generator=generator(self.seed, "samples"))

    def first(self, problem: Problem, count: int) -> Problem:
        """The first ``count`` samples; the problem itself for all of them."""
        size = len(problem)
        if count == size:
            return problem
        return Sample(problem, self.order(size)[:count], self.blocks)

    def enlarged(self, problem: Problem, at: Evaluation, count: int) -> Evaluation:
        """``at``, of the first samples, as it is of ``count``: only those that are new are solved.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """
        seen = at.samples
        if math.isnan(at.variance) or count <= seen:
            return at
        others = Sample(problem, self.order(len(problem))[seen:count], self.blocks)
        new = others.value_and_grad(at.theta, tol=at.accuracy)
        both = pooled([at, new])
        if count == len(problem):
            return both
        variance = (seen * at.variance + new.samples * new.variance) / count
        return replace(both, variance=variance)
