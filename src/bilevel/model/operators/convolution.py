"""Convolution with a kernel, known or learned: deblurring."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from bilevel.ground.checks import check_choice
from bilevel.ground.errors import InputError
from bilevel.ground.fused import differentiating
from bilevel.model.operators import spectra
from bilevel.model.operators.boundary import Axis, Boundary
from bilevel.model.operators.derived import Derived
from bilevel.model.operators.inputs import check_adjoint, check_forward, real_tensor
from bilevel.model.operators.operator import Interval, Operator, Shape
from bilevel.model.part import check_learn
from bilevel.model.preconditioner import Stencil

__all__ = ["Convolution"]


class Convolution(Operator):
    """Blur with a known kernel: deblurring.

    A x = k * x, true convolution with the size of the image: (k * x)[i] = Σ_j k[j] x[i - j + s].

    The centre of the kernel is s = size // 2 along each axis. Beyond its ends the image is
    periodic, zero, or reflected half a pixel outside (d c b a | a b c d). Computed by FFT on a
    grid that avoids slow lengths, which beats a direct sum already for 5x5.

    Args:
        kernel: (kh, kw) for all channels or (c, kh, kw), one a channel; not larger than the image.
        boundary: "circular", "zero" or "reflecting".
        learn: ``("kernel",)`` to learn the kernel, from the one given.

    Raises:
        InputError: a kernel that is complex, not finite or empty, or that requires a gradient,
            an unknown boundary or name in ``learn``.

    Example:
        >>> operator = Convolution(torch.full((3, 3), 1 / 9), boundary="reflecting")
        >>> operator(torch.ones(1, 1, 8, 9)).allclose(torch.ones(1, 1, 8, 9))
        True
    """

    kernel: Tensor

    def __init__(
        self, kernel: Tensor, boundary: Boundary = "circular", *, learn: Collection[str] = ()
    ) -> None:
        super().__init__()
        check_learn(learn, ("kernel",))
        check_choice(boundary, ("circular", "zero", "reflecting"), "boundary")
        self.boundary: Boundary = boundary
        advice = "give kernel.detach() with learn=('kernel',), or hand it on as theta"
        values = real_tensor(kernel, "kernel", (2, 3), advice)
        self.kernel = nn.Parameter(values, requires_grad="kernel" in learn)
        self._derived = Derived()

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c, h, w)."""
        check_forward(self, x, self.kernel)
        rows, columns = self._axes(x)
        z = self._filter(columns.extend(rows.extend(x)), rows, columns, adjoint=False)
        return columns.crop(rows.crop(z))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, c, h, w) -> (b, c, h, w)."""
        check_adjoint(self, y, self.kernel)
        rows, columns = self._axes(y)
        return columns.fold(rows.fold(self._filter(y, rows, columns, adjoint=True)))

    def _axes(self, x: Tensor) -> tuple[Axis, Axis]:
        (h, w), (kh, kw) = x.shape[-2:], self.kernel.shape[-2:]
        return Axis.of(-2, h, kh, self.boundary), Axis.of(-1, w, kw, self.boundary)

    def _filter(self, x: Tensor, rows: Axis, columns: Axis, *, adjoint: bool) -> Tensor:
        size = (rows.grid, columns.grid)
        if self.kernel.requires_grad and differentiating():
            spectrum = self._spectrum(size, adjoint=adjoint)
        else:
            spectrum = self._derived.get(
                self.kernel, (adjoint, size), lambda: self._spectrum(size, adjoint=adjoint)
            )
        z = cast(Tensor, torch.fft.rfft2(x, s=size)) * spectrum
        return cast(Tensor, torch.fft.irfft2(z, s=size))

    def _spectrum(self, size: tuple[int, int], *, adjoint: bool) -> Tensor:
        spectrum = spectra.transfer(self.kernel, size)
        spectrum = spectrum.conj_physical() if adjoint else spectrum
        return spectrum.to(self.kernel.device, self.kernel.dtype.to_complex())

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
        }[self.boundary]
        size = image_shape[1:]
        return self._derived.get(self.kernel, ("bounds", size), lambda: bounds(self.kernel, size))

    def sensitivity(self, image_shape: Shape) -> float:
        """√taps, twice that where the boundary reflects: ‖A‖ <= Σ_j |k[j]| ‖shift by j‖."""
        del image_shape
        if not self.kernel.requires_grad:
            return 0.0
        taps = math.sqrt(self.kernel.shape[-2] * self.kernel.shape[-1])
        return (2 if self.boundary == "reflecting" else 1) * taps

    def gram_spectrum(self, image_shape: Shape) -> Tensor | None:
        """|k̂|² (h, w), float64, for the circular boundary and one kernel; otherwise None."""
        _, h, w = self.data_shape(image_shape)
        if self.boundary != "circular" or self.kernel.shape[:-2].numel() > 1:
            return None
        return self._derived.get(
            self.kernel,
            ("spectrum", h, w),
            lambda: spectra.power(self.kernel, (h, w)).reshape(h, w),
        )

    def data_shape(self, image_shape: Shape) -> Shape:
        """The shape of the image; InputError if the kernel is larger or has other channels."""
        c, h, w = image_shape
        kh, kw = self.kernel.shape[-2:]
        if kh > h or kw > w:
            given = f"an image of {h}x{w}"
            raise InputError(f"the {kh}x{kw} kernel must not exceed the image", given=given)
        if self.kernel.ndim == 3 and self.kernel.shape[0] != c:
            given = f"an image with {c}"
            raise InputError(f"the kernel has {self.kernel.shape[0]} channels", given=given)
        return image_shape

    def gram_stencil(self, x: Tensor) -> Stencil:
        """The kernel, made odd-sided and turned; at the border as if the image were periodic."""
        high, wide = self.kernel.shape[-2:]
        odd = pad(self.kernel, (0, 1 - wide % 2, 0, 1 - high % 2)).expand(x.shape[1], -1, -1)
        one = Stencil.identity(x)
        return replace(one, filters=one.filters * odd.flip(-2, -1)[:, None])

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        learn = ("kernel",) if self.kernel.requires_grad else ()
        return {"kernel": self.kernel.detach(), "boundary": self.boundary, "learn": learn}
