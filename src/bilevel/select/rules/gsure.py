"""Stein's unbiased estimate of the error of what the data tell of the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.model import Variational
from bilevel.select.choice import Outcome
from bilevel.select.degrees import ONE_PROBE, Degrees
from bilevel.select.level_rule import LevelRule
from bilevel.select.noise import check_gaussian, level_of, risk_advice, variance_of
from bilevel.select.point import Point
from bilevel.select.pseudo_inverse import PseudoInverse
from bilevel.select.rule import Goal, Rule

__all__ = ["GSURE"]


@dataclass(frozen=True)
class Lifted:
    """L, L A L b of every probe b (n, c, h, w), and tr LLᵀ."""

    inverse: PseudoInverse
    twice: Tensor
    noise: Tensor


@dataclass(frozen=True)
class GSURE(LevelRule):
    """(‖L(A x_w - y)‖² - σ² tr LLᵀ + 2σ² tr(Lᵀ L A ∂x/∂y))/n.

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
    lifted: Lifted | None = field(default=None, repr=False, compare=False)
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
        known = self._known(point.energy, point.y)
        misfit = known.inverse(point.residual).double().square().flatten(1).sum(1)
        pairs = self.degrees.responses(point, level_of(self.sigma, point))
        fitted = self._trace(known.twice, pairs)
        total = misfit + variance_of(self.sigma, point) * (2 * fitted - known.noise)
        return total / point.x[0].numel()

    def slope(self, point: Point) -> Tensor:
        """SUGAR (Deledalle, Vaiter, Fadili and Peyré 2014): of the Monte Carlo estimate."""
        known = self._known(point.energy, point.y)
        moved = known.inverse(point.energy.fidelity.operator(point.slope))
        misfit = 2 * rows.inner(known.inverse(point.residual).double(), moved.double())
        pairs = self.degrees.slopes(point, level_of(self.sigma, point))
        fitted = self._trace(known.twice, pairs)
        total = misfit + 2 * variance_of(self.sigma, point) * fitted
        return total / point.x[0].numel()

    def advice(self, outcome: Outcome, value: float) -> str:
        """As for the predicted risk."""
        return risk_advice(outcome) or super().advice(outcome, value)

    def _known(self, energy: Variational, y: Tensor) -> Lifted:
        if self.lifted is not None:
            return self.lifted
        operator = energy.fidelity.operator
        _, c, h, w = y.shape
        inverse = PseudoInverse(operator, operator.image_shape((c, h, w)), self.truncation)
        lifted, noise = inverse(self.degrees.vectors(y)), inverse.energy()
        if noise is None:
            noise = self.degrees.trace(lifted.double().square().flatten(1).sum(1))
        return Lifted(inverse, inverse(operator(lifted)).double(), noise)

    def _trace(self, twice: Tensor, pairs: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """tr(Lᵀ L A ∂x/∂y): since L A is symmetric, ⟨L A L b, (∂x/∂y) b⟩ for every probe b."""
        products = zip(twice, pairs, strict=True)
        return self.degrees.trace((dx.double() * t).flatten(1).sum(1) for t, (_, dx) in products)
