"""Rules that go by the level of Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from bilevel.model import Variational
from bilevel.select.noise import Level, estimated_level, level_of
from bilevel.select.point import Point
from bilevel.select.rule import Rule

__all__ = ["LevelRule"]


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
