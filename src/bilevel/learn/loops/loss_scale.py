"""How steep the loss is beside the lower level: the unit of penalties that add one to the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Draw, Iterates
from bilevel.learn.loops.following import whole_norm
from bilevel.learn.problem import DirectedProblem

__all__ = ["LossScale"]

_SMALL = 1e-2


@dataclass(frozen=True)
class LossScale(Packable):
    """L_ℓ/L at the start, so that options of penalty methods do not depend on units.

    L_ℓ is the change of ∇ℓ along itself, an estimate from below, exact for the squared error; the
    scale is 1 where this is zero.
    """

    value: float

    @staticmethod
    def at(problem: DirectedProblem, theta: Theta, at: Iterates) -> LossScale:
        """From the first 64 samples, two first derivatives each."""
        lower, upper = (torch.arange(count) for count in problem.counts)
        if problem.separable:
            lower = upper = problem.few()
        draw = Draw(lower, upper)
        rows = problem.rows(draw)
        x = at.x[rows]
        pull = problem.slopes(theta, x, draw).upper
        size = whole_norm(pull)
        length = _SMALL * (whole_norm(x) or 1.0)
        if size == 0:
            return LossScale(1.0)
        moved = problem.slopes(theta, x - (length / size) * pull, draw).upper
        steepness = whole_norm(moved - pull) / length
        return LossScale(steepness / float(problem.lipschitz(theta, rows).min()) or 1.0)
