"""A cascade of zero-padded convolutions, its transpose, and a proved bound of its norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

from bilevel.ground.checks import numbers
from bilevel.ground.errors import InputError
from bilevel.ground.fused import differentiating, mapping
from bilevel.ground.randomness import generator
from bilevel.model.regularisers import lags
from bilevel.model.regularisers.shifts import add_shifted

__all__ = [
    "Cascade",
    "analyse",
    "checked",
    "estimated_norm",
    "layer_norm",
    "random_cascade",
    "rounded_norms",
    "row_norms",
    "synthesise",
]

_GRID = 64
_STRIP = 2**21
"""Numbers that a strip of a transposed convolution may fill, so that it stays near the caches."""


@dataclass(frozen=True)
class Cascade:
    """diag(scale) W, with the scale in the last bank, or beside it where every row has its own."""

    banks: list[Tensor]
    beside: Tensor | None = None

    @staticmethod
    def of(filters: Sequence[Tensor], scale: Tensor) -> Cascade:
        """``scale`` is (m,), one a channel, or (b, m, 1, 1)."""
        if scale.ndim > 1:
            return Cascade(list(filters), scale)
        *first, last = filters
        return Cascade([*first, last * scale[:, None, None, None]])

    def __call__(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, m, h, w)."""
        t = analyse(self.banks, x)
        return t if self.beside is None else self.beside * t

    def transpose(self, p: Tensor) -> Tensor:
        """(b, m, h, w) -> (b, c, h, w)."""
        return synthesise(self.banks, p if self.beside is None else self.beside * p)

    def rows(self, index: Tensor) -> Cascade:
        """For these rows."""
        return self if self.beside is None else replace(self, beside=self.beside[index])


def analyse(filters: Sequence[Tensor], x: Tensor) -> Tensor:
    """W x: one zero-padded convolution after the other, (b, c, h, w) -> (b, m, h, w).

    Filters (m, c, k, k') have odd sides. The result is stored with channels last, which is what
    the convolutions of a CPU are fastest with.
    """
    x = _channels_last(x)
    for bank in filters:
        x = _plain(x, bank)
    return x


def synthesise(filters: Sequence[Tensor], p: Tensor) -> Tensor:
    """Wᵀ p: the transposed convolutions in reverse order, (b, m, h, w) -> (b, c, h, w)."""
    for bank in reversed(filters):
        p = _transposed(p, bank)
    return p.contiguous()


def _plain(p: Tensor, bank: Tensor) -> Tensor:
    bank = _channels_last(bank)
    return conv2d(p, bank, padding=(bank.shape[2] // 2, bank.shape[3] // 2))


def _channels_last(x: Tensor) -> Tensor:
    """As it is under ``torch.func.vmap``, which knows no other order."""
    return x if mapping() else x.contiguous(memory_format=torch.channels_last)


def _transposed(p: Tensor, bank: Tensor) -> Tensor:
    """What is fastest: in float32 a plain convolution with the filters turned round."""
    if p.dtype == torch.float64:
        border = bank.shape[2] // 2, bank.shape[3] // 2
        tape = p.device.type != "cpu" or differentiating()
        return conv_transpose2d(p, bank, padding=border) if tape else _scattered(p, bank)
    turned = bank.flip(2, 3).transpose(0, 1)
    return _paired(p, turned) if _worth_pairing(p, turned) else _plain(p, turned)


def _scattered(p: Tensor, bank: Tensor) -> Tensor:
    """Strip by strip one product for all shifts, then what each shift adds to the image."""
    b, _, height, width = p.shape
    m, few, high, wide = bank.shape
    out = p.new_zeros(b, few, height + high - 1, width + wide - 1)
    matrix = bank.permute(2, 3, 1, 0).reshape(-1, m)
    rows = max(1, _STRIP // (b * len(matrix) * width))
    for top in range(0, height, rows):
        strip = p[:, :, top : top + rows].reshape(b, m, -1)
        shares = (matrix @ strip).view(b, high, wide, few, -1, width)
        add_shifted(out[:, :, top:], shares)
    up, left = high // 2, wide // 2
    return out[:, :, up : up + height, left : left + width]


def _worth_pairing(p: Tensor, bank: Tensor) -> bool:
    """Many channels to few: the vector units of a CPU are filled by pairs of columns only."""
    return p.device.type == "cpu" and bank.shape[0] <= 8 < bank.shape[1] and p.shape[3] >= 8


def _paired(p: Tensor, bank: Tensor) -> Tensor:
    """The same as :func:`_plain`, two neighbouring columns at once as twice as many channels."""
    few, _, high, wide = bank.shape
    both = torch.cat((pad(bank, (0, 1)), pad(bank, (1, 0))))
    both = both.contiguous(memory_format=torch.channels_last)
    out = conv2d(p, both, stride=(1, 2), padding=(high // 2, wide // 2))
    b, _, rows, half = out.shape
    columns = out.reshape(b, 2, few, rows, half).permute(0, 2, 3, 4, 1).reshape(b, few, rows, -1)
    if p.shape[3] % 2:
        edge = _plain(p[..., -(wide // 2 + 1) :], bank)[..., -1:]
        columns = torch.cat((columns, edge), dim=3)
    return columns.contiguous(memory_format=torch.channels_last)


def random_cascade(
    channels: Sequence[int] = (4, 8, 64), size: int = 5, *, image_channels: int = 1, seed: int = 0
) -> list[Tensor]:
    """Banks as the convolutions of PyTorch begin: even in ±1/√(taps of a filter).

    Args:
        channels: of each layer.
        size: odd side of the filters [pixel].
        image_channels: of the images.
        seed: of the filters.

    Raises:
        InputError: no layer, an even side, channels that are not positive.

    Example:
        >>> [tuple(bank.shape) for bank in random_cascade((4, 8), 3)]
        [(4, 1, 3, 3), (8, 4, 3, 3)]
    """
    if not channels or min(*channels, image_channels) < 1:
        what = "a cascade needs at least one channel in every layer"
        raise InputError(what, given=(image_channels, *channels))
    if size < 1 or size % 2 == 0:
        raise InputError("filters of a cascade need an odd size", given=size)
    rng, banks = generator(seed, "cascade"), list[Tensor]()
    for c, m in zip((image_channels, *channels), channels, strict=False):
        even = 2 * torch.rand(m, c, size, size, generator=rng) - 1
        banks.append(even / math.sqrt(c * size**2))
    return banks


def estimated_norm(filters: Sequence[Tensor], side: int = 256) -> Tensor:
    """The norm of the cascade on the torus of ``side`` pixels, as one layer of filters, ().

    Right for large images far from their border, hence an estimate: zero padding inside of the
    cascade is not seen. It can be differentiated. A proved bound is the product of
    :func:`layer_norm`, often twice as large.

    Source: Goujon, Neumayer, Unser 2024, Section 4.
    """
    reach = [sum(bank.shape[axis] // 2 for bank in filters) for axis in (3, 2)]
    eye = torch.eye(filters[0].shape[1], dtype=filters[0].dtype, device=filters[0].device)
    pixels = pad(eye[:, :, None, None], (reach[0], reach[0], reach[1], reach[1]))
    response = analyse(filters, pixels).transpose(0, 1)
    gram = lags.spectrum(lags.gram(response), (side, side)).permute(2, 3, 0, 1)
    if len(eye) == 1:
        return gram.real.max().sqrt()
    return cast(Tensor, torch.linalg.eigvalsh(gram))[..., -1].max().sqrt()


def row_norms(filters: Sequence[Tensor], height: int, width: int) -> Tensor:
    """The norms of the rows of W, (m, height, width) in float64.

    A row depends on its distance to the borders as far as the cascade reaches, so that those of
    the smallest image with all such distances are repeated.
    """
    banks = [bank.detach().double() for bank in filters]
    up, left = (sum(bank.shape[axis] // 2 for bank in banks) for axis in (2, 3))
    high, wide = min(height, 2 * up + 1), min(width, 2 * left + 1)
    channels = banks[0].shape[1]
    pixels = torch.eye(channels * high * wide, dtype=torch.float64, device=banks[0].device)
    small = analyse(banks, pixels.view(-1, channels, high, wide)).square().sum(0).sqrt()
    return small[:, _repeated(high, height)][:, :, _repeated(wide, width)]


def rounded_norms(filters: Sequence[Tensor], height: int, width: int) -> Tensor:
    """The same of |W_L| ... |W_1|: what rounding of W x is relative to, where layers cancel."""
    return row_norms([bank.abs() for bank in filters], height, width)


def _repeated(few: int, many: int) -> Tensor:
    """The places 0, ..., few - 1 with the middle one repeated until there are ``many``."""
    place, middle = torch.arange(many), few // 2
    beyond = (place - middle - (many - few)).clamp_min(0)
    return place if few == many else place.clamp_max(middle) + beyond


def layer_norm(bank: Tensor) -> Tensor:
    """A proved upper bound of the norm of one zero-padded layer (m, c, k, k'), any image size.

    The norm is at most the largest singular value of the symbol k̂(ω) over all frequencies. Its
    Gram matrix is a trigonometric polynomial of degree d = k - 1 (k' - 1), whose maximum is at
    most that on a grid of N > 2 d points an axis over cos(πd/N) for each axis (Ehlich and Zeller
    1964).
    """
    grid = [max(_GRID, 4 * side) for side in bank.shape[2:]]
    spectrum = cast(Tensor, torch.fft.rfft2(bank.detach().double(), s=grid))
    symbol = spectrum.permute(2, 3, 0, 1)
    if bank.shape[0] < bank.shape[1]:
        symbol = symbol.mH
    gram = symbol.mH @ symbol
    peak = cast(Tensor, torch.linalg.eigvalsh(gram))[..., -1].max()
    sides = zip(bank.shape[2:], grid, strict=True)
    axes = (math.cos(math.pi * (side - 1) / points) for side, points in sides)
    return (peak / math.prod(axes)).sqrt() * (1 + 1e-12)


def checked(filters: Sequence[Tensor]) -> list[Tensor]:
    """The banks in the default type, a chain of odd-sided ones.

    Raises:
        InputError: none, one that does not follow the one before, or values that are not finite.
    """
    if not filters:
        raise InputError("a cascade needs at least one bank of filters")
    channels: int | None = None
    banks = [numbers(bank, f"filters[{k}]") for k, bank in enumerate(filters)]
    for k, bank in enumerate(banks):
        odd = bank.ndim == 4 and all(side % 2 for side in bank.shape[2:])
        if not odd or bank.shape[1] != (channels or bank.shape[1]):
            expected = f"filters[{k}] must have shape (m, {channels or 'c'}, k, k') with odd sides"
            raise InputError(expected, given=tuple(bank.shape))
        channels = bank.shape[0]
    return banks
