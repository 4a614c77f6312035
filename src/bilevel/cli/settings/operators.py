"""The [operator] table: how images become data."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from bilevel.cli.settings.base import Fraction, Positive, Seed, Settings, Side, Unfit
from bilevel.ground.randomness import generator
from bilevel.model import operators
from bilevel.model.operators import Operator, Shape

__all__ = [
    "Convolution",
    "Downsampling",
    "FourierMask",
    "GaussianBlur",
    "Identity",
    "Mask",
    "OperatorSettings",
]

Boundary = Annotated[
    Literal["circular", "zero", "reflecting"], Field(description="how the image goes on outside")
]


class OperatorSettings(Settings):
    """A forward operator for images of any size; masks are drawn for the size at hand."""

    decisive: ClassVar[str] = "name"
    """The key to change when the operator does not fit an image."""

    @abstractmethod
    def build(self, shape: Shape) -> Operator:
        """The operator for images (c, h, w)."""

    @property
    def smallest(self) -> int:
        """Side of the smallest image that it takes [pixel]."""
        return 1

    @property
    def multiple(self) -> int:
        """What the sides of an image must be multiples of [pixel]."""
        return 1


class Identity(OperatorSettings):
    """Data are the image itself: denoising."""

    def build(self, shape: Shape) -> Operator:
        """The identity."""
        del shape
        return operators.Identity()


class GaussianBlur(OperatorSettings):
    """Blur with a Gaussian kernel that is cut off and sums to one: deblurring."""

    decisive: ClassVar[str] = "size"
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
    """Blur with a kernel of your own, written as a list of rows."""

    decisive: ClassVar[str] = "kernel"
    kernel: list[list[float]] = Field(
        description="the rows of the kernel, e.g. [[0.5, 0.5]]"
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
    def smallest(self) -> int:
        """The longer side of the kernel."""
        return max(len(self.kernel), *(len(row) for row in self.kernel))


class Mask(OperatorSettings):
    """A random part of the pixels is seen: inpainting."""

    decisive: ClassVar[str] = "fraction"
    fraction: Fraction = Field(default=0.5, description="part of the pixels that is seen")
    seed: Seed = Field(default=0, description="of the pixels drawn")

    def build(self, shape: Shape) -> Operator:
        """Pixels drawn anew for every size, the same ones for all images of a size."""
        size = shape[1:]
        level = torch.rand(size, generator=generator(self.seed, "mask", *size))
        return operators.Mask(level < self.fraction)


class FourierMask(OperatorSettings):
    """Some vertical lines of the Fourier transform are seen: single-coil magnetic resonance."""

    decisive: ClassVar[str] = "acceleration"
    acceleration: Annotated[float, Field(ge=1, le=256)] = Field(
        default=2.0, description="one of so many lines is seen"
    )
    centre_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.08,
        description="part of the lines, around frequency zero, that is seen in any case",
    )
    seed: Seed = Field(default=0, description="of the lines drawn")

    def build(self, shape: Shape) -> Operator:
        """Lines drawn anew for every size, the same ones for all images of a size."""
        return operators.FourierMask.lines(
            shape[1:], self.acceleration, self.centre_fraction, self.seed
        )

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
