"""Stein's unbiased estimate of the error of what the data tell of the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.model import Variational
from bilevel.select.choice import Outcome
from bilevel.select.degrees import ONE_PROBE, Degrees
from bilevel.select.noise import Level, check_gaussian, level_of, risk_advice, variance_of
from bilevel.select.point import Point
from bilevel.select.pseudo_inverse import PseudoInverse
from bilevel.select.rule import Goal, Rule

__all__ = ["GSURE"]


@dataclass(frozen=True)
class GSURE(Rule):
    """(‖L(A x_w - y)‖² - σ² tr LLᵀ + 2σ² tr(Lᵀ L A ∂x/∂y))/n.

    L is a pseudo-inverse of A. The estimate is unbiased for ‖L A (x_w - x̃)‖²/n, whatever L is;
    with L = A⁺ that is the error of the projection P x_w onto the range of Aᵀ, and the formula the
    one of Eldar (2009, arXiv 0804.3010): ‖P x_w - A⁺y‖² - σ² tr (AAᵀ)⁺ + 2σ² tr(A⁺ᵀ ∂x/∂y). Small
    singular values would make it all noise, so they are left out: see :class:`PseudoInverse`.

    Args:
        sigma: noise level [unit of the data], one number or one for each row.
        degrees: how traces are computed.
        truncation: singular values below this part of the largest count as 0 [1].

    Raises:
        InputError: a truncation that is not positive.

    Example:
        >>> GSURE(sigma=0.1).truncation
        0.1
    """

    sigma: Level
    degrees: Degrees = ONE_PROBE
    truncation: float = 0.1
    goal: ClassVar[Goal] = Goal.MINIMUM

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.truncation, "the truncation")

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian noise of known level."""
        check_gaussian("GSURE", energy, y, self.sigma)

    def value(self, point: Point) -> Tensor:
        """The estimate of the mean squared error of L A x [grey value²]."""
        inverse = self.pseudo_inverse(point)
        misfit = inverse(point.residual).double().square().flatten(1).sum(1)
        fitted = self._trace(point, self.degrees.responses(point, level_of(self.sigma, point)))
        noise = inverse.energy()
        if noise is None:
            lifted = inverse(self.degrees.vectors(point.y))
            noise = self.degrees.trace(lifted.double().square().flatten(1).sum(1))
        total = misfit + variance_of(self.sigma, point) * (2 * fitted - noise)
        return total / point.x[0].numel()

    def slope(self, point: Point) -> Tensor:
        """SUGAR (Deledalle, Vaiter, Fadili and Peyré 2014): of the Monte Carlo estimate."""
        inverse = self.pseudo_inverse(point)
        moved = inverse(point.energy.fidelity.operator(point.slope))
        misfit = 2 * rows.inner(inverse(point.residual).double(), moved.double())
        fitted = self._trace(point, self.degrees.slopes(point, level_of(self.sigma, point)))
        total = misfit + 2 * variance_of(self.sigma, point) * fitted
        return total / point.x[0].numel()

    def advice(self, outcome: Outcome, value: float) -> str:
        """As for the predicted risk."""
        return risk_advice(outcome) or super().advice(outcome, value)

    def pseudo_inverse(self, point: Point) -> PseudoInverse:
        """L at a point."""
        _, c, h, w = point.x.shape
        return PseudoInverse(point.energy.fidelity.operator, (c, h, w), self.truncation)

    def _trace(self, point: Point, pairs: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """tr(Lᵀ L A ∂x/∂y): since L A is symmetric, ⟨L A L b, (∂x/∂y) b⟩ for every probe b."""
        inverse = self.pseudo_inverse(point)
        lifted = inverse(self.degrees.vectors(point.y))
        twice = inverse(point.energy.fidelity.operator(lifted)).double()
        products = zip(twice, pairs, strict=True)
        return self.degrees.trace((dx.double() * t).flatten(1).sum(1) for t, (_, dx) in products)
