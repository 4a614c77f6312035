"""The best weight there is, for who knows the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule

__all__ = ["Oracle"]


@dataclass(frozen=True)
class Oracle(Rule):
    """mean((x_w - x̃)²): what other rules are measured by.

    Args:
        target: x̃, (b, c, h, w).
    """

    target: Tensor
    goal: ClassVar[Goal] = Goal.MINIMUM
    blind: ClassVar[bool] = False

    def check(self, energy: Variational, y: Tensor) -> None:
        """A target for every image."""
        expected = energy.start(y).shape
        if self.target.shape != expected:
            given = tuple(self.target.shape)
            raise InputError(f"targets must have shape {tuple(expected)}", given=given)

    def value(self, point: Point) -> Tensor:
        """The mean squared error [grey value²]."""
        return self._error(point).square().flatten(1).mean(1)

    def slope(self, point: Point) -> Tensor:
        """2 ⟨x_w - x̃, dx/dlog w⟩/n."""
        return 2 * (self._error(point) * point.slope.double()).flatten(1).mean(1)

    def _error(self, point: Point) -> Tensor:
        return (point.x - self.target[point.index]).double()
