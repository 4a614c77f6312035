"""Spectra of convolution kernels, and what they prove about the eigenvalues of AᵀA.

Kernels are (kh, kw) or (c, kh, kw) and not larger than the image; everything is computed on the
CPU in float64.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from bilevel.model.operators.operator import Interval

__all__ = [
    "circular_bounds",
    "interval",
    "power",
    "reflecting_bounds",
    "transfer",
    "zero_bounds",
]


def transfer(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """k̂ on a periodic grid of ``size``, the kernel's centre at the origin: half of it, complex."""
    return cast(Tensor, torch.fft.rfft2(_centred(kernel, size)))


def power(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """|k̂|² on the whole grid: (h, w) or (c, h, w)."""
    return cast(Tensor, torch.fft.fft2(_centred(kernel, size))).abs().square()


def _centred(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    kh, kw = kernel.shape[-2:]
    padded = functional.pad(kernel.cpu().double(), (0, size[1] - kw, 0, size[0] - kh))
    return padded.roll((-(kh // 2), -(kw // 2)), (-2, -1))


def interval(smallest: Tensor, largest: Tensor, kernel: Tensor) -> Interval:
    """Squares of singular value bounds, widened by more than an FFT of the kernel can round."""
    slack = 1e-12 * float(kernel.cpu().double().abs().sum())
    return Interval(max(0.0, float(smallest) - slack) ** 2, (float(largest) + slack) ** 2)


def circular_bounds(kernel: Tensor, size: tuple[int, int]) -> Interval:
    """A is diagonal in the DFT: the smallest and largest |k̂|², exact."""
    modulus = transfer(kernel, size).abs()
    return interval(modulus.min(), modulus.max(), kernel)


def zero_bounds(kernel: Tensor, size: tuple[int, int]) -> Interval:
    """A = Eᵀ C E, where E embeds the image with zeros into a grid on which C is circular.

    Hence ‖A‖ <= ‖C‖ = max |k̂|, and |⟨x, A x⟩| = |⟨E x, C E x⟩| >= min Re k̂ ‖x‖² if Re k̂ has one
    sign, which bounds the singular values of A from below.
    """
    (h, w), (kh, kw) = size, kernel.shape[-2:]
    spectrum = transfer(kernel, (h + kh - 1, w + kw - 1))
    coercive = torch.maximum(spectrum.real.amin((-2, -1)), -spectrum.real.amax((-2, -1)))
    return interval(coercive.min(), spectrum.abs().max(), kernel)


def reflecting_bounds(kernel: Tensor, size: tuple[int, int]) -> Interval:
    """A = P C S, where S extends the image symmetrically to twice its size and P crops again.

    Split k into four parts, each even or odd along each axis. C_p S x is symmetric or
    antisymmetric, so that the crop has a quarter of its energy: ‖P C_p S x‖² = Σ_ω a_ω |k̂_p(ω)|²
    with the squared DCT coefficients a of x. By the triangle and the Cauchy-Schwarz inequality
    with weights m_p = max |k̂_p|,

        ‖A‖² <= (Σ_p m_p) max_ω Σ_p |k̂_p(ω)|² / m_p,

    and the even part alone, diagonal in the DCT, bounds A from below. Both are exact if k is even.
    """
    h, w = size
    parts = [_centred(kernel, (2 * h, 2 * w))]
    for dim in (-2, -1):
        pairs = [(part, part.flip(dim).roll(1, dim)) for part in parts]
        parts = [half for a, b in pairs for half in ((a + b) / 2, (a - b) / 2)]
    modulus = cast(Tensor, torch.fft.fft2(torch.stack(parts))).abs()[..., :h, :w]
    smallest = modulus[0].amin((-2, -1)) - _norm(modulus[1:])
    return interval(smallest.min(), _norm(modulus).max(), kernel)


def _norm(modulus: Tensor) -> Tensor:
    most = modulus.amax((-2, -1), keepdim=True).clamp_min(1e-300)
    squares = most.sum(0) * (modulus.square() / most).sum(0)
    return squares.amax((-2, -1)).sqrt()
