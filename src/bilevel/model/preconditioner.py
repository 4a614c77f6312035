"""Approximate inverses of Hessians Σ KᵀDK: scaled pixels around an inverse that is circulant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from bilevel.ground import rows
from bilevel.linear import LinearMap

__all__ = ["Preconditioner", "Stencil", "joined"]

WIDE = 9  # filters from this side on
LEAST = 1e-4  # of the largest entry: what is smaller counts as that; added to matrices


@dataclass(frozen=True)
class Stencil:
    """A part KᵀDK of a Hessian: ``filters`` (m, c, k, k') with odd sides, ``weights`` D >= 0.

    K correlates the image with the filters, centred; D is (b, m, h, w), or (1, m, 1, 1).
    """

    filters: Tensor
    weights: Tensor

    @staticmethod
    def identity(x: Tensor) -> Stencil:
        """The identity for images like ``x``."""
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[:, :, None, None]
        return Stencil(eye, x.new_ones(1, x.shape[1], 1, 1))

    def times(self, factor: Tensor) -> Stencil:
        """``factor`` () times the same."""
        return replace(self, weights=factor * self.weights)

    @property
    def joint(self) -> bool:
        """Whether any filter sees several channels."""
        seen = self.filters.abs().amax((2, 3)) > 0
        return bool((seen.sum(1) > 1).any())

    def diagonal(self, shape: torch.Size) -> Tensor:
        """Of KᵀDK for images (b, c, h, w); where D is constant, as if there were no border.

        For wide filters its mean over cells of 2x2 pixels, from the means of D there, spread out.
        """
        squares = self.filters.square()
        if self.weights.shape[2:] == (1, 1):
            total = torch.einsum("bmhw,mckl->bchw", self.weights, squares)
            return total.expand(shape)
        weights = self.weights.expand(shape[0], -1, -1, -1)
        if min(squares.shape[2:]) < WIDE or min(shape[2:]) < WIDE:
            return _spread(weights, squares)
        cells = avg_pool2d(weights, 2, ceil_mode=True)
        coarse = _spread(cells, _on_cells(squares))
        return interpolate(coarse, scale_factor=2.0)[..., : shape[2], : shape[3]]

    def symbol(self, scale: Tensor) -> Tensor:
        """Σ_j mean(s D_j) |k̂_j|² (b, c, h, w // 2 + 1) for ``scale`` s (b, 1, h, w)."""
        share = (scale * self.weights).mean((2, 3))
        high, wide = (2 * side - 1 for side in self.filters.shape[2:])
        spectrum = cast(Tensor, torch.fft.fft2(self.filters, s=(high, wide)))
        power = torch.einsum("bm,mchw->bchw", share, spectrum.abs().square())
        kernel = cast(Tensor, torch.fft.fftshift(torch.fft.ifft2(power), dim=(2, 3)))
        down = _waves(high, scale.shape[2]).to(kernel)
        across = _waves(wide, scale.shape[3])[: scale.shape[3] // 2 + 1].to(kernel)
        return (down @ kernel @ across.T).real

    def matrix(self, scale: Tensor) -> Tensor:
        """Σ_m mean(s_c s_d D_m) k̂_mc conj(k̂_md), (b, h, w // 2 + 1, c, c) complex."""
        h, w = scale.shape[2:]
        high, wide = self.filters.shape[2:]
        taps = torch.complex(self.filters, torch.zeros_like(self.filters))
        down, across = _waves(high, h).to(taps), _waves(wide, w)[: w // 2 + 1].to(taps)
        response = down @ taps @ across.T
        weights = self.weights.expand(len(scale), -1, h, w)
        share = torch.einsum("bchw,bdhw,bmhw->bmcd", scale, scale, weights) / (h * w)
        return torch.einsum("bmcd,mchw,mdhw->bhwcd", share.to(taps), response, response.conj())


def _spread(weights: Tensor, squares: Tensor) -> Tensor:
    """Σ_m weights correlated with the turned squares: what every place receives."""
    turned = squares.flip(2, 3).transpose(0, 1)
    return conv2d(weights, turned, padding=(turned.shape[2] // 2, turned.shape[3] // 2))


def _on_cells(squares: Tensor) -> Tensor:
    """Between cells of 2x2 pixels: the mean over the pixels of one, summed over the other's."""
    m, c, high, wide = squares.shape
    tent = squares.new_tensor([0.5, 1.0, 0.5])
    border = (1 + (high // 2) % 2, 1 + (wide // 2) % 2)
    kernel = (tent[:, None] * tent)[None, None]
    means = conv2d(squares.view(m * c, 1, high, wide), kernel, stride=2, padding=border)
    return means.view(m, c, *means.shape[2:])


def _waves(side: int, length: int) -> Tensor:
    """exp(-2πi u s / length) for u = 0 ... length - 1 and ``side`` shifts s around 0."""
    shift = torch.arange(side, dtype=torch.float64) - side // 2
    angle = torch.arange(length, dtype=torch.float64)[:, None] * shift * (-2 * math.pi / length)
    return torch.polar(torch.ones_like(angle), angle)


@dataclass(frozen=True)
class Preconditioner:
    """M = S F⁻¹ S with S = diag^(-1/4) and F the circulant mean of S H S, all for each row.

    The diagonal follows what varies from pixel to pixel, the circulant what varies from frequency
    to frequency. M is positive definite. ``inverse`` is F⁻¹, a number for each channel and
    frequency, (b, c, h, w // 2 + 1), or, where filters tie channels of a state to one another, a
    matrix for each frequency, (b, c, c, h, w // 2 + 1).

    Example:
        >>> x = torch.ones(1, 1, 4, 4)
        >>> twice = Stencil.identity(x).times(torch.tensor(2.0))
        >>> bool(torch.allclose(Preconditioner.of([twice], x)(x), 0.5 * x))
        True
    """

    scale: Tensor
    inverse: Tensor

    @staticmethod
    def of(parts: Sequence[Stencil], x: Tensor) -> Preconditioner:
        """For images like ``x`` (b, c, h, w), on the parts of the Hessian."""
        diagonal = torch.stack([part.diagonal(x.shape) for part in parts]).sum(0)
        scale = _floored(diagonal).pow(-0.25)
        if any(part.joint for part in parts):
            matrix = torch.stack([part.matrix(scale) for part in parts]).sum(0)
            return Preconditioner(scale, _inverted(matrix))
        square = scale.square().mean(1, keepdim=True)
        symbol = torch.stack([part.symbol(square) for part in parts]).sum(0)
        return Preconditioner(scale, _floored(symbol).reciprocal())

    def __call__(self, v: Tensor) -> Tensor:
        """M v: (b, c, h, w) -> (b, c, h, w)."""
        spectrum = cast(Tensor, torch.fft.rfft2(self.scale * v))
        if self.inverse.ndim == 5:
            spectrum = (self.inverse * spectrum.unsqueeze(1)).sum(2)
        else:
            spectrum = spectrum * self.inverse
        return self.scale * cast(Tensor, torch.fft.irfft2(spectrum, s=v.shape[2:]))

    def as_map(self) -> LinearMap:
        """As a linear map."""
        return LinearMap(self, lambda index: rows.take(self, index).as_map())


def _inverted(matrix: Tensor) -> Tensor:
    """F⁻¹ from (b, h, w // 2 + 1, c, c), some of the identity added so that none is singular."""
    trace = matrix.diagonal(dim1=-2, dim2=-1).real.sum(-1)
    least = LEAST * trace.flatten(1).amax(1)[:, None, None, None, None]
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse = cast(Tensor, torch.linalg.inv(matrix + least * eye))
    return inverse.movedim((-2, -1), (1, 2)).contiguous()


def _floored(a: Tensor) -> Tensor:
    return torch.maximum(a, LEAST * a.flatten(1).amax(1)[:, None, None, None])


def joined(parts: Sequence[list[Stencil] | None]) -> list[Stencil] | None:
    """All stencils together; None if a part has none to give."""
    total: list[Stencil] = []
    for part in parts:
        if part is None:
            return None
        total += part
    return total
