"""Residuals as white as noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bilevel.model import Variational
from bilevel.risk.noise import background_of
from bilevel.risk.spectrum import PATCH, check_patch, of_data
from bilevel.select.choice import Outcome
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule

__all__ = ["Whiteness"]


@dataclass(frozen=True)
class Whiteness(Rule):
    """Residuals as white as can be: σ not needed, but white noise is.

    min :func:`~bilevel.risk.spectrum.whiteness` W of the residuals A x_w - y.

    W is 1 for a flat spectrum and about 2 for white Gaussian noise (Lanza, Pragliola and Sgallari
    2020, residual whiteness principle). It needs no noise level.

    Args:
        patch: side of the squares in which residuals are looked at; None: the whole image.

    Raises:
        InputError: a patch of less than 2 pixels.

    Example:
        >>> Whiteness().goal
        <Goal.MINIMUM: 'minimum'>
    """

    patch: int | None = PATCH
    goal: ClassVar[Goal] = Goal.MINIMUM

    def __post_init__(self) -> None:
        """Check the option."""
        check_patch(self.patch)

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian or Poisson noise."""
        background_of("whiteness", energy)

    def value(self, point: Point) -> Tensor:
        """W [1]; inf where residuals vanish."""
        background = background_of("whiteness", point.energy)
        residual, prediction = point.fine_residual.double(), point.prediction.double()
        return of_data(residual, prediction, background, self.patch)

    def advice(self, outcome: Outcome, value: float) -> str:
        """Noise that is not white misleads the rule."""
        if outcome is Outcome.EDGE:
            return (
                f"residuals with W = {value:.3g} (2 for white noise) are whitest at the edge: "
                "widen the range; if the noise is correlated, use another rule"
            )
        return super().advice(outcome, value)
