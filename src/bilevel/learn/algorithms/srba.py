"""SRBA: recursive estimates of the directions, made anew from all samples now and then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_count
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Directions, Draw, Iterates
from bilevel.learn.loops.accelerated import Accelerated
from bilevel.learn.loops.single_loop import Now
from bilevel.learn.problem import DirectedProblem

__all__ = ["SRBA", "everything"]


@dataclass(frozen=True)
class Past(Packable):
    """The last point, as far as it differs from the present one, and the estimates there."""

    theta: Theta
    rows: Tensor
    x: Tensor
    v: Tensor
    slope: Tensor
    bent: Tensor
    estimate: Theta

    @staticmethod
    def of(now: Now, found: Directions) -> Past:
        """Before x and v move along ``found``."""
        x, v = now.at.x[found.rows], now.at.v[found.rows]
        return Past(now.theta, found.rows, x, v, found.x, found.v, found.theta)

    def directions(self, problem: DirectedProblem, at: Iterates, draw: Draw) -> Directions:
        """At the last point; ``at`` is left as it is."""
        x, v = at.x[self.rows], at.v[self.rows]
        at.x[self.rows], at.v[self.rows] = self.x, self.v
        try:
            return problem.directions(self.theta, at, draw)
        finally:
            at.x[self.rows], at.v[self.rows] = x, v


@dataclass(frozen=True)
class SRBA(Accelerated):
    """Constant steps, with gradients estimated recursively.

    SARAH on all three directions, constant steps (Dagréou et al. 2023, arXiv 2302.08766).

    An estimate is the last one plus the change of the batch's directions since; every ``period``
    iterations it is made from all samples. Where each sample has its own x, D_x and D_v are exact,
    and only D_θ is estimated; what it changes by as x and v of the samples drawn follow θ is a
    known part of the mean, and counts as such. Other options: see
    :class:`~bilevel.learn.loops.single_loop.SingleLoop` and
    :class:`~bilevel.learn.loops.accelerated.Accelerated`.

    Args:
        period: iterations from one restart to the next; None takes an epoch.

    Raises:
        InputError: a ``period`` below 1.

    Example:
        >>> SRBA(period=10).decay
        0.0
    """

    period: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_count(self.period, "period")

    def advance(self, problem: DirectedProblem, now: Now) -> tuple[Directions, Packable]:
        """All samples at a restart, otherwise two looks at the next batch."""
        pairing = self.pairing(problem)
        if now.t % (self.period or pairing.epoch) == 0:
            found = everything(self, problem, now)
        else:
            found = self._recursive(problem, now, pairing.draw(now.t))
        past = Past.of(now, found)
        self.move(problem, now, found)
        return found, past

    def _recursive(self, problem: DirectedProblem, now: Now, draw: Draw) -> Directions:
        past = cast(Past, now.memory)
        there = past.directions(problem, now.at, draw)
        before = problem.directions(now.theta, now.at, draw)
        estimate = algebra.add(past.estimate, algebra.add(before.theta, there.theta, -1.0))
        if not problem.separable:
            x, v = past.slope + before.x - there.x, past.bent + before.v - there.v
            return replace(before, x=x, v=v, theta=estimate)
        here = self.look(problem, now, draw)
        share, followed = len(here.rows) / len(problem), algebra.add(here.theta, before.theta, -1.0)
        return replace(here, theta=algebra.add(estimate, followed, share))


def everything(algorithm: Accelerated, problem: DirectedProblem, now: Now) -> Directions:
    """What :meth:`Accelerated.look` sees of all samples, in chunks where each has its own x."""
    lower, upper = (torch.arange(count) for count in problem.counts)
    if not problem.separable:
        return algorithm.look(problem, now, Draw(lower, upper))
    chunks = torch.split(lower, problem.chunk)
    parts = [algorithm.approached(problem, now, Draw(k, k)) for k in chunks]
    mean: Theta = {name: torch.zeros_like(value) for name, value in now.theta.items()}
    for part in parts:
        mean = algebra.add(mean, part.theta, len(part.rows) / len(lower))
    value = sum(p.value * len(p.rows) for p in parts) / len(lower)
    x, v, rows = (torch.cat([getattr(p, name) for p in parts]) for name in ("x", "v", "rows"))
    return algorithm.trusted(problem, now, Directions(x, v, mean, value, rows))
