"""Spectra of convolution kernels, and what they prove about the eigenvalues of AᵀA.

Kernels are (kh, kw) or (c, kh, kw) and not larger than the image; everything is computed on the
CPU in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    "valid_bounds",
    "zero_bounds",
]

_EPS = torch.finfo(torch.float64).eps
_STRIP = 2**18
"""Numbers of a strip: 2 MiB."""


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
    """Squares of singular value bounds, widened by more than sums over the kernel can round."""
    terms = kernel.shape[-2] + kernel.shape[-1]
    slack = (1e-12 + 8 * terms * _EPS) * float(kernel.cpu().double().abs().sum())
    return Interval(max(0.0, float(smallest) - slack) ** 2, (float(largest) + slack) ** 2)


def circular_bounds(kernel: Tensor, size: tuple[int, int]) -> Interval:
    """A is diagonal in the DFT: the smallest and largest |k̂|², exact."""
    h, w = size
    modulus = [
        torch.stack([strip.amin(), strip.amax()])
        for strip in map(_modulus, _strips(kernel, (2 * h, 2 * w), (h, w // 2 + 1), 2))
    ]
    found = torch.stack(modulus)
    return interval(found[:, 0].min(), found[:, 1].max(), kernel)


def zero_bounds(kernel: Tensor, size: tuple[int, int]) -> Interval:
    """A = Eᵀ C E, where E embeds the image with zeros into a grid on which C is circular.

    Hence ‖A‖ <= ‖C‖ = max |k̂|, and |⟨x, A x⟩| = |⟨E x, C E x⟩| >= min Re k̂ ‖x‖² if Re k̂ has one
    sign, which bounds the singular values of A from below.
    """
    h, w = size[0] + kernel.shape[-2] - 1, size[1] + kernel.shape[-1] - 1
    least: list[Tensor] = []
    most: list[Tensor] = []
    norm: list[Tensor] = []
    for strip in _strips(kernel, (2 * h, 2 * w), (h, w // 2 + 1), 2):
        real = strip[0, 0] - strip[1, 1]
        least.append(real.amin((-2, -1)))
        most.append(real.amax((-2, -1)))
        norm.append(_modulus(strip).amax())
    coercive = torch.maximum(torch.stack(least).amin(0), -torch.stack(most).amax(0))
    return interval(coercive.min(), torch.stack(norm).max(), kernel)


def valid_bounds(kernel: Tensor, size: tuple[int, int]) -> Interval:
    """A crops a circular convolution on the grid of the image: ‖A‖ <= max |k̂|.

    With more pixels in the image than in the data there is a null space.
    """
    whole = circular_bounds(kernel, size)
    return Interval(whole.lower if kernel.shape[-2:] == (1, 1) else 0.0, whole.upper)


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

    def strips() -> Iterator[Tensor]:
        return (s.abs_().flatten(0, 1) for s in _strips(kernel, (2 * h, 2 * w), size, 1))

    peaks = torch.stack([s.amax((-2, -1)) for s in strips()]).amax(0).clamp_min(1e-300)
    weights = peaks[..., None, None]
    whole: list[Tensor] = []
    odd: list[Tensor] = []
    even: list[Tensor] = []
    for strip in strips():
        even.append(strip[0].amin((-2, -1)))
        shares = strip.square_().div_(weights)
        odd.append(shares[1:].sum(0).amax((-2, -1)))
        whole.append(shares.sum(0).amax((-2, -1)))
    largest = (peaks.sum(0) * torch.stack(whole).amax(0)).sqrt()
    other = (peaks[1:].sum(0) * torch.stack(odd).amax(0)).sqrt()
    return interval((torch.stack(even).amin(0) - other).min(), largest.max(), kernel)


def _modulus(strip: Tensor) -> Tensor:
    """|k̂|: k̂ = (cos cos - sin sin) - i (cos sin + sin cos)."""
    return torch.hypot(strip[0, 0] - strip[1, 1], strip[0, 1] + strip[1, 0])


def _strips(
    kernel: Tensor, period: tuple[int, int], count: tuple[int, int], step: int
) -> Iterator[Tensor]:
    """Sums of the kernel against cosines and sines, (2, 2, ..., rows, columns) for a few rows.

    Entry (p, q, m, n) is Σ_ij k[i, j] f_p(2π s m i / h) f_q(2π s n j / w), where f_0 = cos and
    f_1 = sin, (h, w) is the ``period``, s the ``step`` and i, j are counted from the centre. Only
    one strip is in memory at a time: a bound takes less than an image.
    """
    k = kernel.cpu().double()
    columns = _waves(torch.arange(count[1]) * step, period[1], k.shape[-1])
    rows = max(1, _STRIP // (4 * count[1] * k.shape[:-2].numel()))
    for part in torch.split(torch.arange(count[0]) * step, rows):
        half = torch.einsum("pmi,...ij->p...mj", _waves(part, period[0], k.shape[-2]), k)
        yield torch.einsum("p...mj,qnj->pq...mn", half, columns)


def _waves(frequency: Tensor, period: int, length: int) -> Tensor:
    """Cosines and sines (2, frequencies, length) around the centre, each angle exact to an ulp."""
    offset = torch.arange(length) - length // 2
    turns = torch.outer(frequency, offset).remainder_(period)
    angle = turns.double().mul_(2 * math.pi / period)
    return torch.stack([angle.cos(), angle.sin()])
