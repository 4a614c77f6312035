"""The [operator] table where it differs from the library's: kernels and masks are described."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from bilevel.cli.settings.arrays import black_and_white, matrix_in
from bilevel.cli.settings.base import Positive, Seed, Side, Unfit
from bilevel.cli.settings.coils import MultiCoil
from bilevel.cli.settings.forward import OperatorSettings
from bilevel.cli.settings.magnetic import FourierMask
from bilevel.ground.randomness import generator
from bilevel.model import operators
from bilevel.model.operators import Operator, Shape

__all__ = [
    "Convolution",
    "Downsampling",
    "FourierMask",
    "GaussianBlur",
    "Mask",
    "Matrix",
    "MultiCoil",
    "Radon",
]

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
    learn: Annotated[tuple[Literal["sigma"], ...], Field(strict=False)] = Field(
        default=(), description='["sigma"]: the width, between 0.1 pixel and half the kernel'
    )
    first_sigma: Positive | None = Field(
        default=None, description="where learning begins [pixel]; at sigma if none"
    )

    @model_validator(mode="after")
    def _check(self) -> GaussianBlur:
        if self.first_sigma is not None and not self.learn:
            raise Unfit("first_sigma", "the width is not learned", advice='add learn = ["sigma"]')
        if self.learn and self.size % 2 == 0:
            what = "a kernel whose width is learned has an odd side"
            raise Unfit("size", what, given=self.size)
        return self

    @property
    def left_open(self) -> str | None:
        """The width, if it is learned."""
        return "learn" if self.learn else None

    @property
    def varying(self) -> Collection[str]:
        """The width, if it is learned."""
        return self.learn

    def assumed(self, shape: Shape) -> Operator:
        """The blur with which learning begins."""
        if not self.learn:
            return self.build(shape)
        first = self.sigma if self.first_sigma is None else self.first_sigma
        return operators.GaussianBlur(first, self.size, self.boundary, learn=self.learn)

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
    learn: Annotated[tuple[Literal["kernel"], ...], Field(strict=False)] = Field(
        default=(), description='["kernel"]: all its values'
    )
    first_kernel: list[list[float]] | None = Field(
        default=None, description="where learning begins, rows or a file; at kernel if none"
    )
    simplex: bool = Field(
        default=True,
        description="whether a learned kernel stays a blur: not negative, its sum kept",
    )

    @model_validator(mode="after")
    def _check(self) -> Convolution:
        for key in sorted({"first_kernel", "simplex"} & self.model_fields_set):
            if not self.learn and getattr(self, key) != type(self).model_fields[key].default:
                raise Unfit(key, "the kernel is not learned", advice='add learn = ["kernel"]')
        return self

    @property
    def left_open(self) -> str | None:
        """The kernel, if it is learned."""
        return "learn" if self.learn else None

    @property
    def varying(self) -> Collection[str]:
        """The kernel, if it is learned."""
        return self.learn

    def assumed(self, shape: Shape) -> Operator:
        """The kernel with which learning begins."""
        if not self.learn:
            return self.build(shape)
        first, key = (self.kernel, "kernel")
        if self.first_kernel is not None:
            first, key = self.first_kernel, "first_kernel"
        kernel, boundary = _kernel(first, key), self.boundary
        return operators.Convolution(kernel, boundary, learn=self.learn, simplex=self.simplex)

    def build(self, shape: Shape) -> Operator:
        """The convolution, whatever the size of the image."""
        del shape
        return operators.Convolution(_kernel(self.kernel, "kernel"), self.boundary)

    @property
    def remark(self) -> str | None:
        """The sum of the kernel, unless that is 1."""
        total = sum(map(sum, self.kernel))
        words = f"the kernel sums to {total:.4g} and is taken as it is: data are as bright as "
        return None if abs(total - 1) < _OFF else f"{words}{total:.4g} times the images"

    @property
    def smallest(self) -> int:
        """The longer side of the kernels."""
        kernels = [self.kernel, *([] if self.first_kernel is None else [self.first_kernel])]
        return max(max(len(rows), *(len(row) for row in rows)) for rows in kernels)


def _kernel(rows: list[list[float]], key: str) -> torch.Tensor:
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        given = f"rows of {sorted(lengths)} numbers"
        raise Unfit(key, "the rows of the kernel must have one length", given=given)
    return torch.tensor(rows, dtype=torch.float64)


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
        h, w = black_and_white("file", self.file).shape
        return h, w

    def build(self, shape: Shape) -> Operator:
        """Pixels drawn anew for every size, the same ones for all images of a size; or those read.

        Raises:
            Unfit: a picture that cannot be read, is not black and white, or of another size.
        """
        size = shape[1:]
        if self.file is not None:
            seen = black_and_white("file", self.file)
            if seen.shape != size:
                given = f"an image of {size[0]}x{size[1]}"
                what = f"the mask is for images of {seen.shape[0]}x{seen.shape[1]} pixels"
                raise Unfit("file", what, given=given)
            return operators.Mask(seen)
        level = torch.rand(size, generator=generator(self.seed, "mask", *size))
        return operators.Mask(level < self.fraction)


class Downsampling(OperatorSettings):
    """Means of blocks of pixels: super-resolution."""

    decisive: ClassVar[str] = "factor"
    factor: Side | Annotated[tuple[Side, Side], Field(strict=False)] = Field(
        default=2, description="side of the blocks, or [height, width] [pixel]"
    )

    def build(self, shape: Shape) -> Operator:
        """The block means, whatever the size of the image."""
        del shape
        return operators.Downsampling(self.factor)

    @property
    def smallest(self) -> int:
        """One block."""
        return max(self.multiples)

    @property
    def multiples(self) -> tuple[int, int]:
        """The sides of a block."""
        return self.factor if isinstance(self.factor, tuple) else (self.factor, self.factor)


class Radon(OperatorSettings):
    """Line integrals of images of one size, with parallel rays or from a point: tomography."""

    decisive: ClassVar[str] = "size"
    size: Annotated[list[Side], Field(min_length=2, max_length=2)] = Field(
        description="height and width of the images [pixel]"
    )
    angles: Annotated[int, Field(ge=1, le=10_000)] | list[float] = Field(
        default=60,
        description="how many, spread over 180 degrees, or 360 from a point; or the angles "
        "themselves [degree], a list or a file of one",
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
        if isinstance(self.angles, list) and not self.angles:
            raise Unfit("angles", "at least one angle is needed", given="[]")
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


class Matrix(OperatorSettings):
    """A matrix from a file, times the pixels of images of one size, row by row."""

    decisive: ClassVar[str] = "matrix"
    matrix: str = Field(
        description="file of a dense matrix (NPY) or a sparse one of SciPy (NPZ), a column a pixel"
    )
    size: Annotated[list[Side], Field(min_length=2, max_length=2)] = Field(
        description="height and width of the images [pixel]"
    )

    @property
    def size_taken(self) -> tuple[int, int]:
        """The size of the images."""
        h, w = self.size
        return h, w

    def build(self, shape: Shape) -> Operator:
        """For images of as many channels as the matrix has columns for.

        Raises:
            InputError: no matrix in the file, or one of another number of columns.
        """
        channels = 1 if len(shape) < 3 else shape[0]
        return operators.Matrix(matrix_in("matrix", self.matrix), (channels, *self.size_taken))
