"""Convolution with a kernel that may depend on parameters."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from bilevel.ground.checks import check_choice
from bilevel.ground.errors import InputError
from bilevel.ground.fused import differentiating
from bilevel.model.operators import spectra
from bilevel.model.operators.boundary import BOUNDARIES, Axis, Boundary
from bilevel.model.operators.derived import Derived
from bilevel.model.operators.inputs import check_adjoint, check_forward
from bilevel.model.operators.operator import Interval, Operator, Shape
from bilevel.model.preconditioner import Stencil

__all__ = ["Filtering"]


class Filtering(Operator):
    """A x = k * x, true convolution: (k * x)[i] = Σ_j k[j] x[i - j + s].

    The centre of the kernel is s = size // 2 along each axis. Beyond its ends the image is
    periodic, zero, or reflected half a pixel outside (d c b a | a b c d); or nothing is assumed
    ("valid"): the data are those that see nothing beyond, (h - kh + 1, w - kw + 1) of them, as in
    a photograph. Computed by FFT on a grid that avoids slow lengths, which beats a direct sum
    already for 5x5.
    """

    shape: tuple[int, ...]
    """Of the kernel: (kh, kw) for all channels or (c, kh, kw), one a channel."""

    def __init__(self, boundary: Boundary) -> None:
        super().__init__()
        check_choice(boundary, BOUNDARIES, "boundary")
        self.boundary: Boundary = boundary
        self._derived = Derived()

    @property
    @abstractmethod
    def source(self) -> Tensor:
        """What the kernel is made from: a parameter, or the kernel itself."""

    @abstractmethod
    def taps(self) -> Tensor:
        """The kernel k, differentiable in its parameters, in their precision or in float64."""

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c, h, w), smaller where the boundary is valid."""
        check_forward(self, x, self.source)
        rows, columns = self._axes(x.shape[-2:])
        z = self._filter(columns.extend(rows.extend(x)), rows, columns, adjoint=False)
        return columns.crop(rows.crop(z))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, c, h, w) -> (b, c, h, w)."""
        check_adjoint(self, y, self.source)
        _, h, w = self.image_shape((y.shape[1], y.shape[2], y.shape[3]))
        rows, columns = self._axes((h, w))
        y = columns.place(rows.place(y))
        return columns.fold(rows.fold(self._filter(y, rows, columns, adjoint=True)))

    def _axes(self, size: Sequence[int]) -> tuple[Axis, Axis]:
        (h, w), (kh, kw) = size, self.shape[-2:]
        return Axis.of(-2, h, kh, self.boundary), Axis.of(-1, w, kw, self.boundary)

    def _filter(self, x: Tensor, rows: Axis, columns: Axis, *, adjoint: bool) -> Tensor:
        size = (rows.grid, columns.grid)
        if self.source.requires_grad and differentiating():
            spectrum = self._spectrum(size, adjoint=adjoint)
        else:
            spectrum = self._derived.get(
                self.source, (adjoint, size), lambda: self._spectrum(size, adjoint=adjoint)
            )
        z = cast(Tensor, torch.fft.rfft2(x, s=size)) * spectrum
        return cast(Tensor, torch.fft.irfft2(z, s=size))

    def _spectrum(self, size: tuple[int, int], *, adjoint: bool) -> Tensor:
        spectrum = spectra.transfer(self.taps(), size)
        spectrum = spectrum.conj_physical() if adjoint else spectrum
        return spectrum.to(self.source.device, self.source.dtype.to_complex())

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Proved bounds of the eigenvalues of AᵀA.

        Exact for the circular boundary, and for reflecting with a kernel that is symmetric along
        both axes. Otherwise the lower bound is 0 unless the kernel is dominated by its centre.
        """
        self.data_shape(image_shape)
        bounds = {
            "circular": spectra.circular_bounds,
            "zero": spectra.zero_bounds,
            "reflecting": spectra.reflecting_bounds,
            "valid": spectra.valid_bounds,
        }[self.boundary]
        size = image_shape[1:]
        return self._derived.get(self.source, ("bounds", size), lambda: bounds(self.taps(), size))

    @abstractmethod
    def slope(self) -> float:
        """A proved bound of Σ_j |∂k[j]/∂θ δ| over ‖δ‖ <= 1; 0 where nothing is learned."""

    def sensitivity(self, image_shape: Shape) -> float:
        """``slope``, twice that where the boundary reflects: ‖A‖ <= Σ_j |k[j]| ‖shift by j‖."""
        del image_shape
        return (2 if self.boundary == "reflecting" else 1) * self.slope()

    def accounted(self) -> frozenset[str]:
        """What the kernel is made from."""
        own = self.named_parameters(remove_duplicate=False)
        return frozenset(name for name, value in own if value is self.source)

    def gram_spectrum(self, image_shape: Shape) -> Tensor | None:
        """|k̂|² (h, w), float64, for the circular boundary and one kernel; otherwise None."""
        self.data_shape(image_shape)
        _, h, w = image_shape
        if self.boundary != "circular" or math.prod(self.shape[:-2]) > 1:
            return None
        return self._derived.get(
            self.source,
            ("spectrum", h, w),
            lambda: spectra.power(self.taps(), (h, w)).reshape(h, w),
        )

    def data_shape(self, image_shape: Shape) -> Shape:
        """The shape of the data; InputError if the kernel is larger or has other channels."""
        c, h, w = image_shape
        kh, kw = self.shape[-2:]
        if kh > h or kw > w:
            given = f"an image of {h}x{w}"
            raise InputError(f"the {kh}x{kw} kernel must not exceed the image", given=given)
        if len(self.shape) == 3 and self.shape[0] != c:
            given = f"an image with {c}"
            raise InputError(f"the kernel has {self.shape[0]} channels", given=given)
        return (c, h - kh + 1, w - kw + 1) if self.boundary == "valid" else image_shape

    def image_shape(self, data_shape: Shape) -> Shape:
        """That of the data, larger by the kernel less one where the boundary is valid."""
        c, h, w = data_shape
        kh, kw = self.shape[-2:]
        return (c, h + kh - 1, w + kw - 1) if self.boundary == "valid" else data_shape

    def window(self, image_shape: Shape) -> tuple[slice, slice]:
        """Where the centre of the kernel can lie; the whole image unless the boundary is valid."""
        _, h, w = image_shape
        if self.boundary != "valid":
            return slice(0, h), slice(0, w)
        kh, kw = self.shape[-2:]
        return slice(kh - 1 - kh // 2, h - kh // 2), slice(kw - 1 - kw // 2, w - kw // 2)

    def gram_stencil(self, x: Tensor) -> Stencil:
        """The kernel, made odd-sided and turned; at the border as if the image were periodic."""
        high, wide = self.shape[-2:]
        odd = pad(self.taps().to(x), (0, 1 - wide % 2, 0, 1 - high % 2)).expand(x.shape[1], -1, -1)
        one = Stencil.identity(x)
        return replace(one, filters=one.filters * odd.flip(-2, -1)[:, None])
