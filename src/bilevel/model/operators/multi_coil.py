"""Magnetic resonance of complex images with one receiver coil or several."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_constant, check_finite
from bilevel.ground.errors import InputError
from bilevel.model.operators.inputs import check_adjoint, check_forward, mask_weights
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = ["MultiCoil", "decoded", "encoded", "extremes"]


class MultiCoil(Operator):
    """Some Fourier coefficients of a complex image, seen by several coils: parallel imaging.

    A x = m F (S_k x) for the coils k = 1..N, with the orthonormal 2-D DFT F. Images (b, 2, h, w)
    hold real and imaginary part; data (b, 2N, h, w) the real parts of all coils, then their
    imaginary parts.

    Args:
        mask: booleans or weights [1], (h, w).
        sensitivities: S, complex, (N, h, w); a single coil that sees all pixels alike if None. The
            operator computes in the finer precision of S and the mask.
        centred: whether frequency zero lies in the middle, at (h // 2, w // 2), of mask and data,
            as raw data of scanners have it; at [0, 0] otherwise.

    Raises:
        InputError: a mask as for ``FourierMask``; sensitivities that are not complex, not finite,
            of another size, or zero everywhere.

    Example:
        >>> operator = MultiCoil(torch.ones(8, 8), torch.full((3, 8, 8), 0.5 + 0.5j))
        >>> operator(torch.ones(1, 2, 8, 8)).shape
        torch.Size([1, 6, 8, 8])
    """

    mask: Tensor
    parts: Tensor

    def __init__(
        self, mask: Tensor, sensitivities: Tensor | None = None, *, centred: bool = False
    ) -> None:
        super().__init__()
        weights = mask_weights(mask, (2,))
        parts = _real_parts(sensitivities, weights)
        precision = torch.promote_types(weights.dtype, parts.dtype)
        self.register_buffer("mask", weights.to(precision))
        self.register_buffer("parts", parts.to(precision))
        self.centred = centred

    @property
    def sensitivities(self) -> Tensor:
        """S, complex, (N, h, w)."""
        return torch.complex(*self.parts)

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, 2, h, w) -> (b, 2N, h, w)."""
        check_forward(self, x, self.mask)
        return encoded(x, self.mask, self.sensitivities, self.centred)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, 2N, h, w) -> (b, 2, h, w)."""
        check_adjoint(self, y, self.mask)
        return decoded(y, self.mask, self.sensitivities, self.centred)

    @property
    def roundings(self) -> float:
        """Of a transform, two products and a sum over the coils."""
        return 4.0 + self.parts.shape[1] ** 0.5

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Extremes of m² times those of Σ|S_k|² over the pixels: exact where one is constant."""
        self.data_shape(image_shape)
        return extremes(self.mask, self.parts.double().square().sum((0, 1)))

    def data_shape(self, image_shape: Shape) -> Shape:
        """(2N, h, w); raises InputError unless the image is a pair of the size of the mask."""
        c, h, w = image_shape
        if (c, h, w) != (2, *self.mask.shape):
            what = f"images are pairs (2, h, w) = {(2, *self.mask.shape)}: real, imaginary part"
            raise InputError(what, given=tuple(image_shape))
        return (2 * self.parts.shape[1], h, w)

    def image_shape(self, data_shape: Shape) -> Shape:
        """(2, h, w); raises InputError unless there are two channels for each coil."""
        coils = self.parts.shape[1]
        if data_shape[0] != 2 * coils:
            what = f"data of {coils} coils have {2 * coils} channels, real and imaginary parts"
            raise InputError(what, given=data_shape[0])
        return (2, data_shape[1], data_shape[2])

    def arranged(self, weights: Tensor) -> Tensor:
        """Frequency zero in the middle."""
        return weights if self.centred else cast(Tensor, torch.fft.fftshift(weights))

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        options = {"mask": self.mask, "sensitivities": self.sensitivities}
        return {**options, "centred": self.centred}


def extremes(mask: Tensor, power: Tensor) -> Interval:
    """Bounds of AᵀA from those of m² and of Σ|S_k|², ``power`` float64, not rounded inwards."""
    squares = mask.double().square()
    lower, upper = squares.min() * power.min(), squares.max() * power.max()
    return Interval(float(lower) / (1 + 1e-12), float(upper) * (1 + 1e-12))


def encoded(x: Tensor, mask: Tensor, sensitivities: Tensor, centred: bool) -> Tensor:
    """m F (S_k x), with mask (h, w) and maps (N, h, w), or (b, 1, h, w) and (b, N, h, w)."""
    seen = sensitivities * torch.complex(x[:, :1], x[:, 1:])
    if centred:
        seen = cast(Tensor, torch.fft.ifftshift(seen, (-2, -1)))
    z = cast(Tensor, torch.fft.fft2(seen, norm="ortho"))
    if centred:
        z = cast(Tensor, torch.fft.fftshift(z, (-2, -1)))
    return torch.cat([mask * z.real, mask * z.imag], 1)


def decoded(y: Tensor, mask: Tensor, sensitivities: Tensor, centred: bool) -> Tensor:
    """The adjoint of :func:`encoded`."""
    z = torch.complex(*(mask * y).chunk(2, 1))
    if centred:
        z = cast(Tensor, torch.fft.ifftshift(z, (-2, -1)))
    seen = cast(Tensor, torch.fft.ifft2(z, norm="ortho"))
    if centred:
        seen = cast(Tensor, torch.fft.fftshift(seen, (-2, -1)))
    x = (sensitivities.conj() * seen).sum(1, keepdim=True)
    return torch.cat([x.real, x.imag], 1)


def _real_parts(sensitivities: object, mask: Tensor) -> Tensor:
    """(2, N, h, w) in the precision of the maps, or of the mask if there are none."""
    if sensitivities is None:
        return torch.stack([torch.ones_like(mask), torch.zeros_like(mask)])[:, None]
    check_constant(sensitivities, "sensitivities")
    maps = torch.as_tensor(sensitivities).detach()
    if not maps.is_complex() or maps.ndim != 3 or maps.shape[1:] != mask.shape or not len(maps):
        expected = f"sensitivities must be complex, (coils, h, w) with (h, w) = {tuple(mask.shape)}"
        raise InputError(expected, given=f"{maps.dtype} {tuple(maps.shape)}")
    parts = torch.stack([maps.real, maps.imag])
    check_finite(parts, "sensitivities")
    if not bool(parts.any()):
        raise InputError(
            "sensitivities are zero everywhere", advice="check how they were estimated"
        )
    return parts
