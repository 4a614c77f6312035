"""How an image goes on beyond its ends, and the FFT length that fits it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import scipy.fft  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["BOUNDARIES", "Axis", "Boundary"]

Boundary = Literal["circular", "zero", "reflecting", "valid"]
BOUNDARIES: tuple[Boundary, ...] = ("circular", "zero", "reflecting", "valid")


@dataclass(frozen=True)
class Axis:
    """One axis of an image, extended by ``before`` and ``after`` pixels, on a periodic grid.

    The grid is so long that a cyclic convolution there is right on the image. Lengths with large
    prime factors are avoided: their FFT is several times slower.

    Example:
        >>> Axis.of(-1, 3, 3, "reflecting").extend(torch.tensor([1, 2, 3]))
        tensor([1, 1, 2, 3, 3])
    """

    dim: int
    length: int
    before: int
    after: int
    grid: int
    boundary: Boundary
    first: int
    """Where the data begin on the grid."""
    count: int
    """How long the data are: those that see nothing beyond the ends where the boundary is valid."""

    @staticmethod
    def of(dim: int, length: int, kernel: int, boundary: Boundary) -> Axis:
        """The axis for a kernel of that length, whose centre is at ``kernel // 2``."""
        before, after = kernel - 1 - kernel // 2, kernel // 2
        if boundary == "valid":
            grid, count = _fast(length), length - kernel + 1
            return Axis(dim, length, 0, 0, grid, boundary, before, count)
        if boundary == "circular" and _fast(length) == length:
            return Axis(dim, length, 0, 0, length, boundary, 0, length)
        grid = _fast(length + kernel - 1)
        if boundary == "zero":
            return Axis(dim, length, 0, 0, grid, boundary, 0, length)
        return Axis(dim, length, before, after, grid, boundary, before, length)

    def extend(self, x: Tensor) -> Tensor:
        """Continue ``x`` beyond its ends; the rest of the grid is left for the FFT to fill."""
        if not self.before + self.after:
            return x
        head = x.narrow(self.dim, 0, self._head)
        tail = x.narrow(self.dim, self.length - self._tail, self._tail)
        if self.boundary == "circular":
            return torch.cat([tail, x, head], self.dim)
        return torch.cat([head.flip(self.dim), x, tail.flip(self.dim)], self.dim)

    def crop(self, z: Tensor) -> Tensor:
        """The part of the grid where the data lie after ``extend``."""
        return z.narrow(self.dim, self.first, self.count)

    def place(self, y: Tensor) -> Tensor:
        """The adjoint of ``crop`` but for the origin of ``fold``: data as long as the image."""
        missing = self.length - self.count
        if not missing:
            return y
        ahead = [0, 0] * (-1 - self.dim)
        return functional.pad(y, [*ahead, self.first, missing - self.first])

    def fold(self, z: Tensor) -> Tensor:
        """The adjoint of ``extend``, from a grid whose origin is the first pixel of the image."""
        x = z.narrow(self.dim, 0, self.length)
        if not self.before + self.after:
            return x
        before = z.narrow(self.dim, self.grid - self.before, self.before)
        after = z.narrow(self.dim, self.length, self.after)
        x = x.clone()
        head = x.narrow(self.dim, 0, self._head)
        tail = x.narrow(self.dim, self.length - self._tail, self._tail)
        if self.boundary == "circular":
            tail.add_(before)
            head.add_(after)
        else:
            head.add_(before.flip(self.dim))
            tail.add_(after.flip(self.dim))
        return x

    @property
    def _head(self) -> int:
        return self.after if self.boundary == "circular" else self.before

    @property
    def _tail(self) -> int:
        return self.before if self.boundary == "circular" else self.after


def _fast(length: int) -> int:
    return int(cast(Any, scipy.fft).next_fast_len(length))
