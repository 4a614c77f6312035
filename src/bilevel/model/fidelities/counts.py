"""What fidelities of counts of one gain have in common."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.model.fidelities.photons import Photons
from bilevel.model.operators.operator import Operator

__all__ = ["Counts"]

ROUNDING = 1e-5
"""Data may lie so far below -background, relative to the largest of them."""


class Counts(Photons):
    """w/gain Σ ψ(A x + background; y + background) of data that are nowhere below -background."""

    degree = 1

    def __init__(
        self,
        operator: Operator | None = None,
        background: float = 0.01,
        weight: float = 1.0,
        gain: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, background, weight and gain."""
        super().__init__(operator, background, weight, learn=learn)
        self.gain = check_positive(gain, "the gain")

    @property
    def weight(self) -> Tensor:
        """w/gain."""
        return super().weight / self.gain

    @property
    def exact_weight(self) -> Tensor:
        """w/gain in float64."""
        return super().exact_weight / self.gain

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {**super().options(), "gain": self.gain}

    def check(self, y: Tensor) -> None:
        """Data of the operator, none below -background."""
        super().check(y)
        z = y + self.background
        if bool((z < -ROUNDING * z.abs().max()).any()):
            what = f"Poisson data lie above -background = {-self.background:g}"
            advice = "take the background of the noise, or clamp the data"
            raise InputError(what, given=f"a least value of {float(y.min()):.3g}", advice=advice)

    def counts(self, y: Tensor) -> Tensor:
        """z = y + background, the counts over the peak."""
        return super().counts(y).clamp_min(0.0)
