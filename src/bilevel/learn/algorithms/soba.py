"""SOBA: plain stochastic steps, which decrease."""

from __future__ import annotations

from dataclasses import dataclass

from bilevel.ground.packing import Packable
from bilevel.learn.algorithms.accelerated import Accelerated
from bilevel.learn.algorithms.single_loop import Now
from bilevel.learn.directions import Directions
from bilevel.learn.problem import DirectedProblem

__all__ = ["SOBA"]


@dataclass(frozen=True)
class SOBA(Accelerated):
    """Plain stochastic steps that decrease.

    Steps along the directions of a batch, ∝ t^(-1/2) (Dagréou et al. 2022, arXiv 2201.13409).

    By their analysis, of one inner step and a given outer step, the mean of ‖∇F‖² over T iterations
    is O(log T / √T). Options: see
    :class:`~bilevel.learn.algorithms.single_loop.SingleLoop` and
    :class:`~bilevel.learn.algorithms.accelerated.Accelerated`.

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
