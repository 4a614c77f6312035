"""Residuals as large as the noise, as a criterion to be minimised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bilevel.model import Variational
from bilevel.risk.noise import check_gaussian
from bilevel.select.level_rule import LevelRule, variance_of
from bilevel.select.point import Point
from bilevel.select.rule import Goal

__all__ = ["Gaussianity"]


@dataclass(frozen=True)
class Gaussianity(LevelRule):
    """Residuals most nearly as large as the noise: the discrepancy principle as a minimum.

    min ½(‖A x_w - y‖²/(mσ²) - 1)²: the root of the discrepancy principle where there is one.

    Unlike that principle it answers, at an edge, where no weight meets the noise level.

    Args:
        sigma: noise level [unit of the data], one number or one for each row; None: estimated.

    Example:
        >>> Gaussianity(sigma=0.1).sigma
        0.1
    """

    goal: ClassVar[Goal] = Goal.MINIMUM

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian noise of known level."""
        check_gaussian("the Gaussianity of residuals", energy, y, self.sigma)

    def value(self, point: Point) -> Tensor:
        """Half the squared relative excess of ‖A x - y‖² [1]."""
        return 0.5 * self._excess(point).square()

    def slope(self, point: Point) -> Tensor:
        """By the chain rule."""
        return self._excess(point) * point.misfit_slope / self._target(point)

    def _target(self, point: Point) -> Tensor:
        return variance_of(self.sigma, point) * point.size

    def _excess(self, point: Point) -> Tensor:
        return point.misfit / self._target(point) - 1
