"""The [operator] table where it differs from the library's: kernels and masks are described."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bilevel.cli.settings.base import Positive, Seed, Side, Unfit
from bilevel.cli.settings.kinds import OperatorSettings
from bilevel.data import kspace, load_image
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model import operators
from bilevel.model.operators import Operator, Shape
from bilevel.model.operators.fourier import line_mask

__all__ = ["Convolution", "Downsampling", "FourierMask", "GaussianBlur", "Mask", "Radon"]

_OFF = 1e-3
Boundary = Annotated[
    Literal["circular", "zero", "reflecting", "valid"],
    Field(description="how the image goes on outside; valid: data end where nothing is assumed"),
]


class GaussianBlur(OperatorSettings):
    """Blur with a Gaussian kernel that is cut off and sums to one: deblurring."""

    decisive = "size"
    size: Side = Field(default=9, description="side of the kernel [pixel]")
    sigma: Positive = Field(default=1.6, description="standard deviation of the kernel [pixel]")
    boundary: Boundary = "circular"

    def build(self, shape: Shape) -> Operator:
        """The blur, whatever the size of the image."""
        del shape
        t = torch.arange(self.size, dtype=torch.float64) - (self.size - 1) / 2
        profile = torch.exp(-0.5 * (t / self.sigma) ** 2)
        kernel = torch.outer(profile, profile)
        return operators.Convolution(kernel / kernel.sum(), self.boundary)

    @property
    def smallest(self) -> int:
        """The side of the kernel."""
        return self.size


class Convolution(OperatorSettings):
    """Blur with a kernel of your own, written as a list of rows or read from a file."""

    decisive = "kernel"
    kernel: list[list[float]] = Field(
        description='the rows, e.g. [[0.5, 0.5]], or a file such as "psf.tif"'
    )
    boundary: Boundary = "circular"

    def build(self, shape: Shape) -> Operator:
        """The convolution, whatever the size of the image."""
        del shape
        lengths = {len(row) for row in self.kernel}
        if len(lengths) != 1 or 0 in lengths:
            given = f"rows of {sorted(lengths)} numbers"
            raise Unfit("kernel", "the rows of the kernel must have one length", given=given)
        return operators.Convolution(torch.tensor(self.kernel, dtype=torch.float64), self.boundary)

    @property
    def remark(self) -> str | None:
        """The sum of the kernel, unless that is 1."""
        total = sum(map(sum, self.kernel))
        words = f"the kernel sums to {total:.4g} and is taken as it is: data are as bright as "
        return None if abs(total - 1) < _OFF else f"{words}{total:.4g} times the images"

    @property
    def smallest(self) -> int:
        """The longer side of the kernel."""
        return max(len(self.kernel), *(len(row) for row in self.kernel))


class Mask(OperatorSettings):
    """Some pixels are seen, drawn at random or white in a picture: inpainting."""

    decisive = "fraction"
    fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.5, description="part of the pixels that is seen"
    )
    seed: Seed = Field(default=0, description="of the pixels drawn")
    file: str | None = Field(
        default=None, description="picture of the pixels seen, in place of fraction and seed"
    )

    @model_validator(mode="after")
    def _check(self) -> Mask:
        defaults = {"fraction": 0.5, "seed": 0}
        drawn = [key for key, value in defaults.items() if getattr(self, key) != value]
        if self.file is not None and drawn:
            what = "a mask is read from a file or drawn, not both"
            raise Unfit("file", what, given=f"file and {' and '.join(drawn)}")
        return self

    @property
    def size_taken(self) -> tuple[int, int] | None:
        """That of the picture."""
        if self.file is None:
            return None
        h, w = self._seen(self.file).shape
        return h, w

    @staticmethod
    def _seen(file: str) -> torch.Tensor:
        """The pixels (h, w) that are white in a picture of two grey values."""
        try:
            x = load_image(file, grey=True)[0, 0]
        except InputError as error:
            raise Unfit("file", str(error)) from error
        if not bool(((x == 0) | (x == 1)).all()):
            advice = "make it white (seen) and black (not seen)"
            raise Unfit("file", f"{Path(file).name} is not black and white alone", advice=advice)
        return x == 1

    def build(self, shape: Shape) -> Operator:
        """Pixels drawn anew for every size, the same ones for all images of a size; or those read.

        Raises:
            Unfit: a picture that cannot be read, is not black and white, or of another size.
        """
        size = shape[1:]
        if self.file is not None:
            seen = self._seen(self.file)
            if seen.shape != size:
                given = f"an image of {size[0]}x{size[1]}"
                what = f"the mask is for images of {seen.shape[0]}x{seen.shape[1]} pixels"
                raise Unfit("file", what, given=given)
            return operators.Mask(seen)
        level = torch.rand(size, generator=generator(self.seed, "mask", *size))
        return operators.Mask(level < self.fraction)


class FourierMask(OperatorSettings):
    """Some vertical lines of the Fourier transform are seen: single-coil magnetic resonance.

    Measured data say themselves which of them were sampled: the others are 0.
    """

    decisive = "acceleration"
    acceleration: Annotated[float, Field(ge=1, le=256)] = Field(
        default=2.0, description="one of so many lines is seen"
    )
    centre_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.08,
        description="part of the lines, around frequency zero, that is seen in any case",
    )
    seed: Seed = Field(default=0, description="of the lines drawn")
    centred: bool = Field(
        default=False,
        description="frequency zero of the data of complex images lies in the middle, "
        "fftshift(fft2(ifftshift(x))); otherwise first, fft2(x)",
    )
    norm: Literal["ortho", "backward"] = Field(
        default="ortho",
        description="of the transform behind the data; backward has no factor, as numpy.fft.fft2",
    )

    def build(self, shape: Shape) -> Operator:
        """Lines drawn anew for every size, the same ones for all images of a size."""
        lines = line_mask(shape[1:], self.acceleration, self.centre_fraction, self.seed)
        return self.seeing(shape, kspace.centred_mask(lines) if self.centred else lines)

    def seeing(self, shape: Shape, seen: Tensor) -> Operator:
        """Of real images, or of complex ones, which have two channels.

        Raises:
            Unfit: centred data of real images.
        """
        if shape[0] == 2:
            return operators.MultiCoil(seen, centred=self.centred)
        if self.centred:
            advice = "set complex = true in [data], or leave centred out"
            raise Unfit("centred", "centred data are those of complex images", advice=advice)
        return operators.FourierMask(seen)

    def unit(self, data_shape: Shape) -> float:
        """√(h w) for a transform without factor: computing is orthonormal."""
        return 1.0 if self.norm == "ortho" else math.sqrt(data_shape[1] * data_shape[2])

    def sampled(self, y: Tensor) -> Tensor:
        """The data that are not 0.

        Raises:
            Unfit: data of several coils.
        """
        if y.shape[1] > 2 and y.shape[1] % 2 == 0:
            what = "data of several coils need the sensitivities of these"
            raise Unfit("name", what, given=f"{y.shape[1] // 2} coils")
        return kspace.sampled(y, centred=self.centred)

    @property
    def smallest(self) -> int:
        """A width at which some lines are kept."""
        return 4 * math.ceil(self.acceleration)


class Downsampling(OperatorSettings):
    """Means of square blocks of pixels: super-resolution."""

    decisive: ClassVar[str] = "factor"
    factor: Side = Field(default=2, description="side of the blocks [pixel]")

    def build(self, shape: Shape) -> Operator:
        """The block means, whatever the size of the image."""
        del shape
        return operators.Downsampling(self.factor)

    @property
    def smallest(self) -> int:
        """One block."""
        return self.factor

    @property
    def multiple(self) -> int:
        """The side of a block."""
        return self.factor


class Radon(OperatorSettings):
    """Line integrals of images of one size, with parallel rays or from a point: tomography."""

    decisive: ClassVar[str] = "size"
    size: Annotated[list[Side], Field(min_length=2, max_length=2)] = Field(
        description="height and width of the images [pixel]"
    )
    angles: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=60, description="how many, spread over 180 degrees, or 360 from a point"
    )
    detectors: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="elements of the detector; as many as the image needs if none"
    )
    spacing: Positive = Field(default=1.0, description="distance of the elements [pixel]")
    source: Positive | None = Field(
        default=None, description="distance of a point source from the centre [pixel]"
    )
    behind: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="distance of the detector from the centre [pixel]"
    )

    @model_validator(mode="after")
    def _check(self) -> Radon:
        h, w = self.size
        if self.source is not None and self.source <= math.hypot(h, w) / 2:
            given = f"{self.source:g} pixels from the centre of {h}x{w}"
            raise Unfit("source", "the source must lie outside the image", given=given)
        return self

    @property
    def size_taken(self) -> tuple[int, int]:
        """The size of the images."""
        h, w = self.size
        return h, w

    def build(self, shape: Shape) -> Operator:
        """The same for all images: it knows their size."""
        del shape
        geometry = (self.size_taken, self.angles, self.detectors, self.spacing, 1.0)
        return operators.Radon(*geometry, self.source, self.behind)
