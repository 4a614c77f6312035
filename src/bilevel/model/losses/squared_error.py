"""The mean squared error, of which PSNR is the logarithm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.model.losses.loss import Loss

__all__ = ["SquaredError"]


@dataclass(frozen=True)
class SquaredError(Loss):
    """The mean squared error, of which PSNR is the logarithm.

    ℓ(x, target) = mean((x - target)²) [grey value²]; PSNR = -10 log10 ℓ for a peak of 1.

    Example:
        >>> import torch
        >>> SquaredError().value(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
        tensor([1.])
    """

    unit: ClassVar[str] = "grey value²"

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
        """-10 log10 of the mean squared error, for a peak of 1."""
        return -10 * math.log10(value) if value > 0 else math.inf
