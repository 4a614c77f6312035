"""Stein's unbiased risk estimate, of denoising and of the prediction A x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.model.operators import Identity
from bilevel.risk.noise import check_gaussian
from bilevel.risk.unbiased import UnbiasedRisk
from bilevel.select.choice import Outcome
from bilevel.select.degrees import ONE_PROBE, Degrees
from bilevel.select.level_rule import LevelRule, level_of, risk_advice
from bilevel.select.point import Point
from bilevel.select.rule import Goal

__all__ = ["SURE", "PredictedRisk"]


@dataclass(frozen=True)
class PredictedRisk(LevelRule):
    """Least estimated error of A x, unbiased: for any operator, σ known.

    (‖A x_w - y‖² + 2σ² df)/m - σ²: unbiased for the mean of (A x_w - A x̃)² (Stein 1981, Thm 1).

    Also called UPRE (Mallows 1973 for linear x_w). It sees nothing of what A loses.

    Args:
        sigma: noise level [unit of the data], one number or one for each row; None: estimated.
        degrees: how df = tr ∂(A x)/∂y is counted.

    Example:
        >>> PredictedRisk(sigma=0.1).degrees.probes
        1
    """

    degrees: Degrees = ONE_PROBE
    goal: ClassVar[Goal] = Goal.MINIMUM

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian noise of known level."""
        check_gaussian("the predicted risk", energy, y, self.sigma)

    def value(self, point: Point) -> Tensor:
        """The estimate of the mean squared error of A x [unit of the data squared]."""
        sigma = level_of(self.sigma, point)
        risk = UnbiasedRisk.prediction(sigma, point.size)
        pairs = self.degrees.responses(point, sigma)
        return risk.value(point.residual, self.degrees.paired(point, risk, pairs))

    def slope(self, point: Point) -> Tensor:
        """SUGAR (Deledalle, Vaiter, Fadili and Peyré 2014): of the Monte Carlo estimate."""
        sigma = level_of(self.sigma, point)
        risk = UnbiasedRisk.prediction(sigma, point.size)
        fitted = self.degrees.paired(point, risk, self.degrees.slopes(point, sigma))
        return risk.slope(point.residual, point.seen * point.prediction_slope, fitted)

    def advice(self, outcome: Outcome, value: float) -> str:
        """A risk at an edge may be that of pure noise, or come from a wrong level."""
        return risk_advice(outcome) or super().advice(outcome, value)


@dataclass(frozen=True)
class SURE(PredictedRisk):
    """Least estimated error of x, unbiased: for denoising, σ known.

    The predicted risk of denoising, where it is that of x itself (Stein 1981, Theorem 1).

    Raises:
        InputError: an operator other than the identity.

    Example:
        >>> SURE(sigma=0.1).sigma
        0.1
    """

    def check(self, energy: Variational, y: Tensor) -> None:
        """Denoising of Gaussian noise of known level."""
        check_gaussian("SURE", energy, y, self.sigma)
        if not isinstance(energy.fidelity.operator, Identity):
            advice = "use rules.PredictedRisk or rules.GSURE"
            given = type(energy.fidelity.operator).__name__
            raise InputError("SURE is for denoising, A = I", given=given, advice=advice)
