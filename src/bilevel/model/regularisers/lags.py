"""Autocorrelations of small filters, and their spectra on large grids by one transform."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

__all__ = ["gram", "spectrum"]


def gram(filters: Tensor) -> Tensor:
    """Correlations of the channels, filters summed: (..., m, c, k, k') -> (..., c, c, lags, lags').

    Of 2 k - 1 and 2 k' - 1 lags; lag 0 is entry (0, 0), negative ones are at the end.

    Example:
        >>> gram(torch.tensor([[[[1.0, -1.0]]]]))
        tensor([[[[ 2., -1., -1.]]]])
    """
    size = [2 * n - 1 for n in filters.shape[-2:]]
    found = cast(Tensor, torch.fft.rfft2(filters, s=size)).movedim((-2, -1), (-4, -3))
    power = (found.mH @ found).movedim((-4, -3), (-2, -1))
    return cast(Tensor, torch.fft.irfft2(power, s=size))


def spectrum(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Half of the transform of lags (..., n, n') on a grid of that period, complex."""
    for dim, period in zip((-2, -1), size, strict=True):
        n = kernel.shape[dim]
        lags = torch.arange(n, device=kernel.device)
        place = torch.where(lags > n // 2, lags - n, lags) % period
        shape = list(kernel.shape)
        shape[dim] = period
        kernel = kernel.new_zeros(shape).index_add(dim, place, kernel)
    return cast(Tensor, torch.fft.rfft2(kernel))
