"""The mean squared error, of which PSNR is the logarithm."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.contrast import peak_of
from bilevel.model.losses.loss import Loss

__all__ = ["SquaredError"]


@dataclass(frozen=True)
class SquaredError(Loss):
    """The mean squared error, of which PSNR is the logarithm.

    ℓ(x, target) = mean((x - target)²) [grey value²]; PSNR = 10 log10(peak²/ℓ).

    Args:
        peak: that of the PSNR that is told of [grey value]; that of the targets if None
            (:func:`~bilevel.ground.contrast.peak_of`, 1 for targets in [0, 1]), and 1 without any.

    Raises:
        InputError: a peak that is not positive.

    Example:
        >>> import torch
        >>> SquaredError().value(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
        tensor([1.])
    """

    unit = "grey value²"
    peak: float | None = None

    def __post_init__(self) -> None:
        """Check the peak."""
        if self.peak is not None:
            check_positive(self.peak, "the peak")

    def fitted(self, target: Tensor) -> SquaredError:
        """With the peak of the targets, unless it was given."""
        return self if self.peak is not None else replace(self, peak=peak_of(target))

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """Mean over the pixels of each row."""
        return (x - target).square().flatten(1).mean(1)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """2 (x - target)/n."""
        return (x - target) * (2 / x[0].numel())

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """2/n, exactly and everywhere."""
        return torch.full_like(radius, 2 / x[0].numel(), dtype=torch.float64)

    def psnr(self, value: float) -> float:
        """10 log10(peak²/mean squared error)."""
        return 20 * math.log10(self.peak or 1.0) - 10 * math.log10(value) if value > 0 else math.inf
