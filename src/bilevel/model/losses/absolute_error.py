"""The mean absolute error, smoothed near 0: a few large errors do not rule it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from bilevel.ground.checks import check_choice, check_positive
from bilevel.ground.contrast import contrast
from bilevel.model.losses.loss import Loss
from bilevel.model.potentials import POTENTIALS

__all__ = ["AbsoluteError"]

SMOOTHING = 0.01
"""Of the contrast of the targets, where none is given."""
CONVEX = ("huber", "charbonnier", "log-cosh")


@dataclass(frozen=True)
class AbsoluteError(Loss):
    """The mean absolute error, smoothed near 0: large errors count less than squared.

    ℓ(x, target) = mean φ_ν(x - target) [grey value], φ_ν(t) = ν ψ(t/ν) ≈ |t| - const for |t| >> ν.

    Source: Charbonnier, Blanc-Féraud, Aubert, Barlaud 1997, for ψ(s) = √(1 + s²) - 1.

    Args:
        smoothing: ν, the error up to which it is a square [grey value]; 0.01 of the contrast of the
            targets if None, and 0.01 without any.
        potential: ψ.

    Raises:
        InputError: a smoothing that is not positive, or an unknown potential.

    Example:
        >>> AbsoluteError(0.01).value(torch.full((1, 1, 2, 2), 1.0), torch.zeros(1, 1, 2, 2))
        tensor([0.9900])
    """

    unit = "grey value"
    smoothing: float | None = None
    potential: Literal["charbonnier", "huber", "log-cosh"] = "charbonnier"

    def __post_init__(self) -> None:
        """Check the options."""
        if self.smoothing is not None:
            check_positive(self.smoothing, "the smoothing")
        check_choice(self.potential, CONVEX, "potential")

    def fitted(self, target: Tensor) -> AbsoluteError:
        """With a smoothing in the unit of the targets, unless it was given."""
        given = self.smoothing is not None
        return self if given else replace(self, smoothing=SMOOTHING * contrast(target))

    @property
    def _smoothing(self) -> float:
        return SMOOTHING if self.smoothing is None else self.smoothing

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """Mean over the pixels of each row."""
        s, potential = (x - target) / self._smoothing, POTENTIALS[self.potential]
        return self._smoothing * potential.value(s).flatten(1).mean(1)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """ψ'((x - target)/ν)/n."""
        s = (x - target) / self._smoothing
        return POTENTIALS[self.potential].ratio(s) * s / x[0].numel()

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """1/(ν n), as ψ'' <= 1; everywhere."""
        steep = 1 / (self._smoothing * x[0].numel())
        return torch.full_like(radius, steep, dtype=torch.float64)
