"""How flat the spectrum of residuals is."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from bilevel.ground.errors import InputError

__all__ = ["PATCH", "check_patch", "of_data", "standardised", "whiteness"]

PATCH = 16
"""The side of the squares that residuals are looked at in, unless another is asked for."""


def whiteness(residual: Tensor, patch: int | None = None) -> Tensor:
    """W = N Σ|r̂|⁴/(Σ|r̂|²)², r̂ the 2-D DFT of N residuals; (b, c, h, w) -> (b,) float64.

    By Parseval N Σ|r̂|⁴ is the energy of the autocorrelation of r, so W = 1 for a flat spectrum; its
    expectation for white Gaussian noise is 2 where h and w are even and c = 1, and nearly so
    elsewhere (Lanza, Pragliola and Sgallari 2020, residual whiteness principle).

    Args:
        residual: r.
        patch: side of squares that overlap by half; the mean of their W is taken, of those with any
            residual. Correlations of opposite signs in different places, which cancel in the
            spectrum of the whole image, then count. None: all residuals at once.

    Returns:
        W [1]; inf where all residuals vanish.

    Example:
        >>> noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> [round(float(whiteness(noise, patch)), 1) for patch in (None, 16)]
        [2.0, 2.0]
    """
    squares = residual.double()[:, None] if patch is None else _squares(residual.double(), patch)
    spectrum = cast(Tensor, torch.fft.fft2(squares))
    power = (spectrum.real.square() + spectrum.imag.square()).flatten(2)
    total = power.sum(2)
    known = total > 0
    each = power.shape[2] * power.square().sum(2) / torch.where(known, total, 1.0).square()
    count = known.sum(1)
    return torch.where(count > 0, (known * each).sum(1) / count.clamp_min(1), torch.inf)


def standardised(residual: Tensor, prediction: Tensor, background: float) -> Tensor:
    """Residuals of counts over √(A x + background), with A x >= 0: of one variance."""
    means = (prediction + background).clamp_min(background)
    return residual / means.sqrt()


def of_data(
    residual: Tensor, prediction: Tensor, background: float | None, patch: int | None
) -> Tensor:
    """W of A x - y, (b,) float64, standardised for counts of that background; None: Gaussian."""
    if background is not None:
        residual = standardised(residual, prediction, background)
    return whiteness(residual, patch)


def check_patch(patch: int | None) -> None:
    """Raise InputError unless squares of that side have a spectrum."""
    if patch is not None and patch < 2:
        advice = "None looks at all residuals at once"
        raise InputError("patch must be at least 2 pixels", given=patch, advice=advice)


def _squares(r: Tensor, side: int) -> Tensor:
    """All squares of that side, or as large as fit, (b, n, c, side, side)."""
    rows, columns = (_positions(length, side) for length in r.shape[2:])
    cut = r[:, :, rows][..., columns]
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def _positions(length: int, side: int) -> Tensor:
    """Of the pixels of squares that overlap by half or more and reach both ends, (n, side)."""
    side = min(side, length)
    count = -(-(length - side) // (side // 2 or 1)) + 1
    starts = torch.linspace(0, length - side, count).round().long()
    return starts[:, None] + torch.arange(side)
