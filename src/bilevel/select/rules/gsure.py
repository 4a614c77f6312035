"""Stein's unbiased estimate of the error of what the data tell of the image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.model import Variational
from bilevel.risk.noise import check_gaussian
from bilevel.risk.pseudo_inverse import PseudoInverse
from bilevel.risk.unbiased import UnbiasedRisk
from bilevel.select.choice import Outcome
from bilevel.select.degrees import ONE_PROBE, Degrees
from bilevel.select.level_rule import LevelRule, level_of, risk_advice
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule

__all__ = ["GSURE"]


@dataclass(frozen=True)
class GSURE(LevelRule):
    """Least estimated error of the part of x that A sees, unbiased: for any operator, σ known.

    (‖L(A x_w - y)‖² - σ² tr LLᵀ + 2σ² tr(Lᵀ L A ∂x/∂y))/n.

    L is a pseudo-inverse of A. The estimate is unbiased for ‖L A (x_w - x̃)‖²/n, whatever L is;
    with L = A⁺ that is the error of the projection P x_w onto the range of Aᵀ, and the formula the
    one of Eldar (2009, arXiv 0804.3010): ‖P x_w - A⁺y‖² - σ² tr (AAᵀ)⁺ + 2σ² tr(A⁺ᵀ ∂x/∂y). Small
    singular values would make it all noise, so they are left out: see :class:`PseudoInverse`.

    Args:
        sigma: noise level [unit of the data], one number or one for each row; None: estimated.
        degrees: how traces are computed.
        truncation: singular values below this part of the largest count as 0 [1].
        lifted: what does not depend on the weight; every search computes it.

    Raises:
        InputError: a truncation that is not positive.

    Example:
        >>> GSURE(sigma=0.1).truncation
        0.1
    """

    degrees: Degrees = ONE_PROBE
    truncation: float = 0.1
    lifted: tuple[PseudoInverse, Tensor] | None = field(default=None, repr=False, compare=False)
    goal: ClassVar[Goal] = Goal.MINIMUM

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.truncation, "the truncation")

    def begin(self, energy: Variational, y: Tensor) -> Rule:
        """With the level and all that the probes alone give."""
        return replace(self, sigma=self._level(energy, y), lifted=self._known(energy, y))

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian noise of known level."""
        check_gaussian("GSURE", energy, y, self.sigma)

    def fresh(self) -> Rule | None:
        """With other probes."""
        degrees = self.degrees.fresh()
        return None if degrees is None else replace(self, degrees=degrees, lifted=None)

    def value(self, point: Point) -> Tensor:
        """The estimate of the mean squared error of L A x [grey value²]."""
        sigma, risk = level_of(self.sigma, point), self._risk(point)
        pairs = self.degrees.responses(point, sigma)
        return risk.value(point.residual, self.degrees.paired(point, risk, pairs))

    def slope(self, point: Point) -> Tensor:
        """SUGAR (Deledalle, Vaiter, Fadili and Peyré 2014): of the Monte Carlo estimate."""
        sigma, risk = level_of(self.sigma, point), self._risk(point)
        fitted = self.degrees.paired(point, risk, self.degrees.slopes(point, sigma))
        return risk.slope(point.residual, point.prediction_slope, fitted)

    def advice(self, outcome: Outcome, value: float) -> str:
        """As for the predicted risk."""
        return risk_advice(outcome) or super().advice(outcome, value)

    def _risk(self, point: Point) -> UnbiasedRisk:
        inverse, energy = self.lifted or self._known(point.energy, point.y)
        sigma = level_of(self.sigma, point)
        return UnbiasedRisk.lifted(inverse, sigma, energy, point.x[0].numel())

    def _known(self, energy: Variational, y: Tensor) -> tuple[PseudoInverse, Tensor]:
        """L and tr LLᵀ."""
        operator = energy.fidelity.operator
        _, c, h, w = y.shape
        inverse = PseudoInverse(operator, operator.image_shape((c, h, w)), self.truncation)
        known = inverse.energy()
        if known is None:
            lifted = inverse(self.degrees.vectors(y)).double()
            known = self.degrees.trace(lifted.square().flatten(1).sum(1))
        return inverse, known
