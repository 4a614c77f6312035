"""Sums of shifted images: the last step of a transposed convolution."""

from __future__ import annotations

from torch import Tensor

__all__ = ["add_shifted"]


def add_shifted(image: Tensor, shares: Tensor) -> None:
    """Add what every tap of a filter gives, each where that tap stands, in place.

    Args:
        image: (b, c, >= h + k - 1, w + k' - 1).
        shares: (b, k, k', c, h, w).
    """
    height, width = shares.shape[-2:]
    for i in range(shares.shape[1]):
        for j in range(shares.shape[2]):
            image[:, :, i : i + height, j : j + width] += shares[:, i, j]
