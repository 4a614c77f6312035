"""Filters with seeded random starts, and what several networks have between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

__all__ = ["bank", "convolution", "smooth_step"]


def bank(rng: torch.Generator, shape: tuple[int, int, int, int]) -> nn.Parameter:
    """Normal filters (m, c, k, k') of variance 1/(c k k')."""
    return nn.Parameter(torch.randn(shape, generator=rng) / math.sqrt(math.prod(shape[1:])))


def convolution(
    rng: torch.Generator, inner: int, outer: int, side: int, *, bias: bool
) -> nn.Conv2d:
    """A layer without padding that starts as PyTorch's do, uniform within 1/√(c k²)."""
    layer = nn.Conv2d(inner, outer, side, bias=bias)
    room = 1 / math.sqrt(inner * side**2)
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.copy_(room * (2 * torch.rand(tensor.shape, generator=rng) - 1))
    return layer


def smooth_step(t: Tensor) -> Tensor:
    """softplus(t) - ln 2, zero at zero."""
    return softplus(t) - math.log(2)
