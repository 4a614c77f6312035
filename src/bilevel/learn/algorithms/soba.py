"""SOBA: plain stochastic steps, which decrease; and with a moving average of those of θ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch

from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Directions, Iterates
from bilevel.learn.loops.accelerated import Accelerated
from bilevel.learn.loops.single_loop import Now
from bilevel.learn.problem import DirectedProblem

__all__ = ["MASOBA", "SOBA"]


@dataclass(frozen=True)
class SOBA(Accelerated):
    """Plain stochastic steps that decrease.

    Steps along the directions of a batch, ∝ t^(-1/2) (Dagréou et al. 2022, arXiv 2201.13409).

    By their analysis, of one inner step and a given outer step, the mean of ‖∇F‖² over T iterations
    is O(log T / √T). Options: see
    :class:`~bilevel.learn.loops.single_loop.SingleLoop` and
    :class:`~bilevel.learn.loops.accelerated.Accelerated`.

    Example:
        >>> SOBA().decay
        0.5
    """

    decay: float = 0.5

    def advance(self, problem: DirectedProblem, now: Now) -> tuple[Directions, Packable | None]:
        """The directions of the next batch."""
        pairing = self.pairing(problem)
        found = self.look(problem, now, pairing.draw(now.t))
        self.move(problem, now, found)
        return found, None


@dataclass(frozen=True)
class Average(Packable):
    """The moving average h."""

    theta: Theta


@dataclass(frozen=True)
class MASOBA(SOBA):
    """SOBA with a moving average of the gradients.

    θ moves along h ← (1 - a) h + a D_θ (Chen, Xiao and Balasubramanian 2023, Algorithm 1).

    arXiv 2306.12067. Other options: see :class:`SOBA`.

    Args:
        average: a; it shrinks as the steps do. None takes 4/epoch, at most 1, so that the average
            forgets faster than θ moves: with longer memories it circles around the solution.

    Raises:
        InputError: an ``average`` outside (0, 1].

    Example:
        >>> MASOBA(average=0.2).decay
        0.5
    """

    average: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.average is not None and not 0 < self.average <= 1:
            raise InputError("average must lie in (0, 1]", given=self.average)

    def remember(self, problem: DirectedProblem, theta: Theta, at: Iterates) -> Packable:
        """No direction yet."""
        del problem, at
        return Average({name: torch.zeros_like(value) for name, value in theta.items()})

    def advance(self, problem: DirectedProblem, now: Now) -> tuple[Directions, Packable]:
        """SOBA's directions, averaged."""
        found, _ = super().advance(problem, now)
        last = cast(Average, now.memory).theta
        average = self.average or min(1.0, 4 / self.pairing(problem).epoch)
        share = average * self.shrunk(problem, now.t) * found.trust
        mean = algebra.add(last, algebra.add(found.theta, last, -1.0), share)
        return replace(found, theta=mean), Average(mean)
