"""AmIGO and StocBiO: a few steps of x and of v before every step of θ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from bilevel.ground.checks import check_count
from bilevel.ground.packing import Packable
from bilevel.learn.directions import Directions, Draw
from bilevel.learn.loops.single_loop import Now, SingleLoop
from bilevel.learn.problem import DirectedProblem

__all__ = ["AmIGO", "StocBiO"]


@dataclass(frozen=True)
class AmIGO(SingleLoop):
    """A few steps of reconstructions and adjoints before each of the parameters.

    Few steps of x, then of v, both from their last values (Arbel and Mairal 2022, Algorithm 1).

    arXiv 2111.14580. Where each sample has its own x, all steps of an iteration concern the batch
    of that iteration; otherwise each takes the next batch. Other options: see
    :class:`~bilevel.learn.loops.single_loop.SingleLoop`.

    Args:
        inner_steps: of x, and as many of v.

    Raises:
        InputError: ``inner_steps`` below 1.

    Example:
        >>> AmIGO(inner_steps=3).inner_steps
        3
    """

    inner_steps: int = 5
    warm: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_count(self.inner_steps, "inner_steps")

    def advance(self, problem: DirectedProblem, now: Now) -> tuple[Directions, Packable | None]:
        """Steps of x, steps of v, and the direction of θ at their ends."""
        steps, rows = self.inner_steps, problem.rows(self.pairing(problem).draw(now.t))
        step = self.inner(problem, now.theta, rows, now.t).to(now.at.x)
        for k in range(steps):
            slope = problem.slope(now.theta, now.at.x[rows], self._draw(problem, now, k))
            now.at.move(rows, step * slope, torch.zeros_like(slope))
        if not self.warm:
            now.at.v[rows] = 0.0
        for k in range(steps):
            found = problem.directions(now.theta, now.at, self._draw(problem, now, k))
            now.at.move(rows, torch.zeros_like(found.x), step * found.v)
        draw = self.pairing(problem).draw(now.t)
        found = problem.directions(now.theta, now.at, draw)
        return self.trusted(problem, now, found), None

    def _draw(self, problem: DirectedProblem, now: Now, k: int) -> Draw:
        t = now.t if problem.separable else now.t * self.inner_steps + k
        return self.pairing(problem).draw(t)


@dataclass(frozen=True)
class StocBiO(AmIGO):
    """As amigo, with adjoints from zero in each iteration.

    As AmIGO, but v starts from zero: a Neumann series (Ji, Yang and Liang 2021, Algorithm 2).

    arXiv 2010.07962. With ``inner_steps`` terms its bias is at most (1 - μ/L)^inner_steps of the
    adjoint for an ``inner_step`` of one: it needs the more of them the larger L/μ is, and where
    each sample has its own x, θ waits if they are far too few.

    Example:
        >>> StocBiO().inner_steps
        10
    """

    inner_steps: int = 10
    warm: ClassVar[bool] = False
