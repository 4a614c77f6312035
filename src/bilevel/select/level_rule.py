"""Rules that go by the level of Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.model import Variational
from bilevel.risk.noise import Level, estimated_level
from bilevel.select.choice import Outcome
from bilevel.select.point import Point
from bilevel.select.rule import Rule

__all__ = ["LevelRule", "level_of", "risk_advice", "variance_of"]


@dataclass(frozen=True)
class LevelRule(Rule):
    """A rule that knows σ, or estimates it once for each search.

    Args:
        sigma: noise level [unit of the data], one number or one for each row; None: estimated.
    """

    sigma: Level

    def begin(self, energy: Variational, y: Tensor) -> Rule:
        """The rule with its level."""
        return replace(self, sigma=self._level(energy, y))

    def level(self, point: Point) -> Tensor:
        """σ of the rows."""
        return level_of(self.sigma, point)

    def _level(self, energy: Variational, y: Tensor) -> Level:
        return estimated_level(energy, y) if self.sigma is None else self.sigma


def level_of(sigma: Level, point: Point) -> Tensor:
    """The level σ of the rows of a point, (b,) float64; ``Rule.begin`` estimates it once."""
    if sigma is None:
        return estimated_level(point.energy, point.y)
    level = torch.as_tensor(sigma, dtype=torch.float64)
    return level[point.index] if level.ndim else level.expand(len(point.index))


def variance_of(sigma: Level, point: Point) -> Tensor:
    """σ² of the rows of a point, (b,) float64."""
    return level_of(sigma, point).square()


def risk_advice(outcome: Outcome) -> str:
    """What to do about an estimated risk that is least at an edge; nothing otherwise."""
    if outcome is not Outcome.EDGE:
        return ""
    return (
        "the risk still falls at the edge: widen the range; if it falls on towards large weights "
        "the data may hold no more than noise, towards small ones sigma may be too small"
    )
