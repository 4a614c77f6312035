"""The discrepancy principle: residuals as large as the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.model import Variational
from bilevel.risk.noise import check_gaussian
from bilevel.select.choice import Outcome
from bilevel.select.degrees import ONE_PROBE, Degrees
from bilevel.select.level_rule import LevelRule, level_of, variance_of
from bilevel.select.point import Point
from bilevel.select.rule import Goal

__all__ = ["Discrepancy"]


@dataclass(frozen=True)
class Discrepancy(LevelRule):
    """Residuals as large as the noise: ‖A x - y‖² = tau² m σ². Smooths a little too much.

    ‖A x_w - y‖² = τ² m σ² (Morozov 1966); corrected: τ² σ² (m - df) with df = tr ∂(A x)/∂y.

    The residual of a good reconstruction is smaller than the noise, since a part of the noise is
    fitted: the plain principle smooths too much.

    Args:
        sigma: noise level [unit of the data], one number or one for each row; None: estimated.
        tau: τ, factor of the noise level.
        corrected: count the degrees of freedom that are fitted.
        degrees: how they are counted.

    Example:
        >>> Discrepancy(sigma=0.1, corrected=True).tau
        1.0
    """

    tau: float = 1.0
    corrected: bool = False
    degrees: Degrees = ONE_PROBE
    goal: ClassVar[Goal] = Goal.ROOT

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.tau, "tau")

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian noise of known level."""
        check_gaussian("the discrepancy principle", energy, y, self.sigma)

    def value(self, point: Point) -> Tensor:
        """The relative excess of ‖A x - y‖² over its target."""
        expected = torch.full_like(point.misfit, point.size)
        if self.corrected:
            expected = expected - self.degrees.of(point, level_of(self.sigma, point))
        variance = variance_of(self.sigma, point)
        return (point.misfit - self.tau**2 * variance * expected) / (variance * point.size)

    def slope(self, point: Point) -> Tensor:
        """Of the same; corrected, that of the Monte Carlo count of degrees of freedom."""
        slope = point.misfit_slope / variance_of(self.sigma, point)
        if self.corrected:
            fitted = self.degrees.slope(point, level_of(self.sigma, point))
            slope = slope + self.tau**2 * fitted
        return slope / point.size

    def advice(self, outcome: Outcome, value: float) -> str:
        """Whether residuals stay too large or too small."""
        if outcome is not Outcome.NO_ROOT:
            return super().advice(outcome, value)
        if value > 0:
            return (
                "residuals stay larger than the noise at every weight: either sigma is too small, "
                "or A does not explain the data, or the range must reach to smaller weights"
            )
        return (
            "residuals stay smaller than the noise at every weight: either sigma is too large, or "
            "the data hold no more than noise, or the range must reach to larger weights"
        )
