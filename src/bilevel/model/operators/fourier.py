"""A sampled Fourier transform: single-coil magnetic resonance imaging on a Cartesian grid."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model.operators.inputs import check_adjoint, check_forward, mask_weights
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = ["FourierMask", "line_mask"]


class FourierMask(Operator):
    """Some Fourier coefficients are seen: single-coil magnetic resonance.

    A x = m F x with the orthonormal 2-D DFT F of each channel of a real image.

    The mask is over the unshifted DFT grid: ``mask[0, 0]`` is the mean of the image; shift a mask
    that has it in the middle with ``torch.fft.ifftshift``. The data (b, 2c, h, w) hold the real
    parts of the c channels, then their imaginary parts.

    Args:
        mask: booleans or weights [1], (h, w).

    Raises:
        InputError: a mask that is complex, not finite, empty or zero everywhere.

    Example:
        >>> operator = FourierMask.lines((8, 8), acceleration=2, centre_fraction=0.25, seed=0)
        >>> operator(torch.ones(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask_weights(mask, (2,)))

    @classmethod
    def lines(
        cls,
        shape: tuple[int, int],
        acceleration: float = 2.0,
        centre_fraction: float = 0.08,
        seed: int = 0,
    ) -> FourierMask:
        """Random vertical lines (phase encoding along the width), all lines in the centre kept.

        Args:
            shape: height and width of the image [pixels].
            acceleration: w / acceleration lines are kept, rounded to the nearest integer.
            centre_fraction: the fraction of the w lines, around frequency zero, that is kept.
            seed: the same seed gives the same lines.

        Raises:
            InputError: an acceleration below 1 or that keeps no line, or a centre that alone has
                more lines than are kept.
        """
        return cls(line_mask(shape, acceleration, centre_fraction, seed))

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, 2c, h, w)."""
        check_forward(self, x, self.mask)
        z = cast(Tensor, torch.fft.fft2(x, norm="ortho"))
        return torch.cat([self.mask * z.real, self.mask * z.imag], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, 2c, h, w) -> (b, c, h, w)."""
        check_adjoint(self, y, self.mask)
        real, imaginary = (self.mask * y).chunk(2, 1)
        z = torch.complex(real, imaginary)
        return cast(Tensor, torch.fft.ifft2(z, norm="ortho")).real

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Smallest and largest of (m(k)² + m(-k)²) / 2, exact."""
        spectrum = self.gram_spectrum(image_shape)
        return Interval(float(spectrum.min()) / (1 + 1e-12), float(spectrum.max()) * (1 + 1e-12))

    def gram_spectrum(self, image_shape: Shape) -> Tensor:
        """(m(k)² + m(-k)²) / 2, (h, w), float64: the image is real, so k and -k go together."""
        self.data_shape(image_shape)
        squares = self.mask.cpu().double().square()
        return (squares + squares.flip(0, 1).roll((1, 1), (0, 1))) / 2

    def data_shape(self, image_shape: Shape) -> Shape:
        """(2c, h, w); raises InputError unless the mask has the size of the image."""
        c, h, w = image_shape
        if (h, w) != tuple(self.mask.shape):
            shape = tuple(self.mask.shape)
            raise InputError(f"a mask of shape {shape} does not fit the image", given=image_shape)
        return (2 * c, h, w)

    def image_shape(self, data_shape: Shape) -> Shape:
        """(c, h, w) of an image with data (2c, h, w); raises InputError if 2c is odd."""
        channels, h, w = data_shape
        if channels % 2:
            raise InputError("Fourier data need an even number of channels", given=channels)
        return (channels // 2, h, w)

    def arranged(self, weights: Tensor) -> Tensor:
        """Frequency zero in the middle."""
        return cast(Tensor, torch.fft.fftshift(weights))

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {"mask": self.mask}


def line_mask(
    shape: tuple[int, int],
    acceleration: float = 2.0,
    centre_fraction: float = 0.08,
    seed: int = 0,
) -> Tensor:
    """The mask of :meth:`FourierMask.lines`: (h, w) booleans, frequency zero first.

    Raises:
        InputError: as there.
    """
    height, width = shape
    if not (math.isfinite(acceleration) and acceleration >= 1):
        raise InputError("acceleration must be a finite number >= 1", given=acceleration)
    if not 0 <= centre_fraction <= 1:
        raise InputError("centre_fraction must lie in [0, 1]", given=centre_fraction)
    kept, centre = round(width / acceleration), round(width * centre_fraction)
    if kept < max(centre, 1):
        raise InputError(
            f"acceleration {acceleration} keeps {kept} of {width} lines",
            given=f"a fully sampled centre of {centre}",
            advice="lower acceleration or centre_fraction",
        )
    frequency = cast(Tensor, torch.fft.fftfreq(width)).abs().argsort(stable=True)
    rest = torch.randperm(width - centre, generator=generator(seed, "lines", width))
    chosen = torch.cat([frequency[:centre], frequency[centre:][rest[: kept - centre]]])
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[:, chosen] = True
    return mask
