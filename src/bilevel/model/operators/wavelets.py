"""Wavelet transforms: orthogonal, or without decimation and then shift-invariant."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pixel_shuffle, pixel_unshuffle

from bilevel.ground.errors import InputError
from bilevel.model.operators.operator import Interval, Operator, Shape
from bilevel.model.operators.wavelet_filters import Wavelet, scaling_filter

__all__ = ["Wavelets", "check_levels"]


class Wavelets(Operator):
    """Wavelet coefficients of an image with a periodic boundary.

    WᵀW = I. Of ``levels`` L, each has three bands of details, differences of rows, of columns, and
    of both; what is left is the approximation, the last band.

    ``decimated``, W is orthogonal too and there are as many coefficients as pixels: level l has one
    for every 2^l x 2^l pixels. All are laid out on the grid of the last level, so that a band of
    level l is 4^(L - l) channels: (b, c, h, w) -> (b, 4^L c, h/2^L, w/2^L). Otherwise filters are
    dilated instead (and go round images below 2^L pixels), every band has the size of the image,
    and a shift of the image shifts them:
    (b, c, h, w) -> (b, (3 L + 1) c, h, w), all bands of a channel side by side.

    Args:
        wavelet: which of the orthogonal families, by their vanishing moments.
        levels: L, from 1 to 15.
        decimated: keep every 2^l-th coefficient.
        approximation: keep the last band too; without it WᵀW <= I.

    Source: Mallat 2009, "A wavelet tour of signal processing", Sections 7.7 and 5.2.2.

    Raises:
        InputError: an unknown wavelet, levels out of range; for decimated wavelets images whose
            sides are not multiples of 2^L.

    Example:
        >>> x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
        >>> [round(c, 3) for c in Wavelets("haar", 1, decimated=True)(x).flatten().tolist()]
        [-4.0, -2.0, 0.0, 8.0]
    """

    def __init__(
        self,
        wavelet: Wavelet = "haar",
        levels: int = 3,
        *,
        decimated: bool = False,
        approximation: bool = True,
    ) -> None:
        super().__init__()
        self.wavelet, self.levels = wavelet, check_levels(levels)
        self.decimated, self.approximation = decimated, approximation
        self._taps = scaling_filter(wavelet)

    @property
    def bands(self) -> Tensor:
        """The band of each channel of coefficients: 3 (l - 1) + orientation, 3 L the approximation.

        Of one channel of the image.
        """
        sizes = [4 ** (self.levels - k) if self.decimated else 1 for k in range(1, self.levels + 1)]
        counts = [size for size in sizes for _ in range(3)] + [1] * self.approximation
        return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))

    def forward(self, x: Tensor) -> Tensor:
        """W x."""
        self.data_shape((x.shape[1], x.shape[2], x.shape[3]))
        rest, found = x.reshape(-1, 1, *x.shape[2:]), list[Tensor]()
        for level in range(self.levels):
            both = self._split(self._split(rest, -1, level).flatten(0, 1)[:, None], -2, level)
            four = both.reshape(len(rest), 4, *both.shape[2:])
            rest = four[:, :1]
            found.append(self._laid_out(four[:, 1:], level))
        if self.approximation:
            found.append(rest)
        return torch.cat(found, 1).reshape(len(x), -1, *found[-1].shape[2:])

    def adjoint(self, y: Tensor) -> Tensor:
        """Wᵀ y."""
        c, *size = self.image_shape((y.shape[1], y.shape[2], y.shape[3]))
        parts = y.reshape(len(y) * c, -1, *y.shape[2:])
        counts = cast(list[int], torch.bincount(self.bands // 3).tolist())
        details = list(cast(tuple[Tensor, ...], parts.split(counts, 1)))
        rest = details.pop() if self.approximation else torch.zeros_like(parts[:, :1])
        for level in reversed(range(self.levels)):
            four = torch.cat([rest, self._taken_up(details[level], level)], 1)
            both = self._joined(four.reshape(-1, 2, *four.shape[2:]), -2, level)
            rest = self._joined(both.reshape(len(rest), 2, *both.shape[2:]), -1, level)
        return rest.reshape(len(y), c, *size)

    def _split(self, x: Tensor, axis: int, level: int) -> Tensor:
        """(n, 1, h, w) -> (n, 2, h', w'), low and high frequencies along an axis."""
        wide = x.index_select(axis, self._around(x.shape[axis], level).to(x.device))
        stride, dilation = self._steps(axis, level)
        return conv2d(wide, self._filters(axis, x), stride=stride, dilation=dilation)

    def _joined(self, y: Tensor, axis: int, level: int) -> Tensor:
        """The adjoint, (n, 2, h', w') -> (n, 1, h, w)."""
        n = y.shape[axis] * (2 if self.decimated else 1)
        (stride, dilation), bank = self._steps(axis, level), self._filters(axis, y)
        wide = conv_transpose2d(y, bank, stride=stride, dilation=dilation)
        size = [*wide.shape]
        size[axis] = n
        return wide.new_zeros(size).index_add(axis, self._around(n, level).to(y.device), wide)

    def _around(self, n: int, level: int) -> Tensor:
        """The places that a filter sees from each of n, going round."""
        beyond = len(self._taps) - (2 if self.decimated else 1)
        return torch.arange(n + beyond * (1 if self.decimated else 2**level)) % n

    def _filters(self, axis: int, x: Tensor) -> Tensor:
        low = torch.tensor(self._taps, dtype=torch.float64)
        high = low.flip(0) * (-1.0) ** torch.arange(len(low))
        pair = torch.stack([low, high]) / (1.0 if self.decimated else 2**0.5)
        return pair.to(x)[:, None, :, None] if axis == -2 else pair.to(x)[:, None, None]

    def _steps(self, axis: int, level: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Stride and dilation."""
        step = 2 if self.decimated else 2**level
        both = (step, 1) if axis == -2 else (1, step)
        return (both, (1, 1)) if self.decimated else ((1, 1), both)

    def _laid_out(self, bands: Tensor, level: int) -> Tensor:
        factor = 2 ** (self.levels - 1 - level)
        return pixel_unshuffle(bands, factor) if self.decimated else bands

    def _taken_up(self, bands: Tensor, level: int) -> Tensor:
        factor = 2 ** (self.levels - 1 - level)
        return pixel_shuffle(bands, factor) if self.decimated else bands

    @property
    def roundings(self) -> float:
        """Of sums of a few products, level after level."""
        return 4.0 * self.levels * len(self._taps)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """WᵀW = I, to the rounding of the filters; from 0 without the approximation."""
        self.data_shape(image_shape)
        return Interval((1 - 1e-12) * self.approximation, 1 + 1e-12)

    def image_shape(self, data_shape: Shape) -> Shape:
        """The shape of the image with such coefficients."""
        c, h, w = data_shape
        factor = 2**self.levels if self.decimated else 1
        return c // len(self.bands), h * factor, w * factor

    def data_shape(self, image_shape: Shape) -> Shape:
        """That of the coefficients; raises InputError for sides that cannot be halved so often."""
        c, h, w = image_shape
        factor = 2**self.levels if self.decimated else 1
        if h % factor or w % factor:
            what = f"{self.levels} levels of decimated wavelets need sides that {factor} divides"
            advice = "crop the image, take fewer levels, or decimated = false"
            raise InputError(what, given=f"an image of {h}x{w}", advice=advice)
        return c * len(self.bands), h // factor, w // factor

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {
            "wavelet": self.wavelet,
            "levels": self.levels,
            "decimated": self.decimated,
            "approximation": self.approximation,
        }


def check_levels(levels: int) -> int:
    """``levels`` if it is a whole number from 1 to 15."""
    if levels not in range(1, 16):
        raise InputError("levels must be a whole number from 1 to 15", given=levels)
    return levels
