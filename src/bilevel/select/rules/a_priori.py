"""A weight from the noise level alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.model import Variational
from bilevel.risk.noise import check_gaussian
from bilevel.select.level_rule import LevelRule, level_of
from bilevel.select.point import Point
from bilevel.select.rule import Goal

__all__ = ["APriori"]


@dataclass(frozen=True)
class APriori(LevelRule):
    """A power of the noise level, w = factor · σ^exponent: the baseline of all rules.

    Chosen before the data are seen (Engl, Hanke, Neubauer 1996, Section 3.2); factor and exponent
    are calibrated once from a few pairs by :func:`bilevel.calibrate`. For the total variation of
    pictures with Gaussian noise the exponent is near 1.

    Args:
        sigma: noise level [unit of the data], one number or one for each row; None: estimated.
        factor: the weight at σ = 1.
        exponent: of σ [1].

    Raises:
        InputError: a factor that is not positive.

    Example:
        >>> APriori(sigma=0.1, factor=0.7).exponent
        1.0
    """

    factor: float = 1.0
    exponent: float = 1.0
    goal: ClassVar[Goal] = Goal.ROOT

    def __post_init__(self) -> None:
        """Check the factor."""
        check_positive(self.factor, "the factor")

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian noise of known level."""
        check_gaussian("an a priori choice", energy, y, self.sigma)

    def value(self, point: Point) -> Tensor:
        """log w less the one that is meant."""
        meant = log(self.factor) + self.exponent * level_of(self.sigma, point).log()
        return point.weight.log() - meant

    def slope(self, point: Point) -> Tensor:
        """1, of the same."""
        return point.weight.new_ones(len(point.weight))
