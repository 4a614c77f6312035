"""An upper-level loss of one's own."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.extend import Loss, check_positive


@dataclass(frozen=True)
class SoftError(Loss):
    """The mean absolute error, smoothed: a few bad pixels do not rule it.

    ℓ(x, target) = mean(√(ν² + (x - target)²) - ν).

    Args:
        smoothing: ν [grey value].
    """

    unit: ClassVar[str] = "grey value"

    smoothing: float = 0.05

    def __post_init__(self) -> None:
        check_positive(self.smoothing, "smoothing")

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        square = (x - target).square()
        root = (self.smoothing**2 + square).sqrt()
        return (square / (root + self.smoothing)).flatten(1).mean(1)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        residual = x - target
        return residual / (self.smoothing**2 + residual.square()).sqrt() / x[0].numel()

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """1/(n ν), everywhere."""
        size = x[0].numel() * self.smoothing
        return torch.full_like(radius, 1 / size, dtype=torch.float64)
