"""The [operator] tables of magnetic resonance: masks drawn, read or learned, and coils."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from bilevel.cli.settings.arrays import array_in, black_and_white, shape_of
from bilevel.cli.settings.base import Seed, Unfit
from bilevel.cli.settings.forward import OperatorSettings
from bilevel.cli.settings.kinds import FidelitySettings
from bilevel.data import Pairs, Place, birdcage, estimated_sensitivities, kspace
from bilevel.data.places import SUFFIXES, normalised
from bilevel.model import operators
from bilevel.model.fidelities import DataTerm, Fidelity, OwnCoils, SampledL2, SquaredL2
from bilevel.model.operators import Operator, Shape
from bilevel.model.operators.fourier import line_mask

__all__ = ["FourierMask", "MultiCoil"]

WORDS = ("birdcage", "estimated")
"""Sensitivities that are no file."""
_COILS, _DECAY = 4, 3.0
_LEAST = 4


class FourierMask(OperatorSettings):
    """Some vertical lines of the Fourier transform are seen: single-coil magnetic resonance.

    Measured data say themselves which of them were sampled: the others are 0.
    """

    decisive = "acceleration"
    acceleration: Annotated[float, Field(ge=1, le=256)] = Field(
        default=2.0, description="one of so many lines, or points, is seen"
    )
    centre_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.08,
        description="part of the lines, around frequency zero, that is seen in any case",
    )
    seed: Seed = Field(default=0, description="of the lines drawn")
    mask: str | None = Field(
        default=None,
        description="picture of what is seen, frequency zero in the middle, in place of "
        "acceleration, centre_fraction and seed",
    )
    learn: Annotated[tuple[Literal["mask"], ...], Field(strict=False)] = Field(
        default=(),
        description='["mask"]: which lines or points to take; data are then fully sampled, and '
        "acceleration is the budget",
    )
    by: Literal["lines", "points"] = Field(
        default="lines", description="what a learned mask is made of"
    )
    binarise: bool = Field(
        default=True,
        description="a learned mask becomes one of 0 and 1, by the largest weights and by "
        "exchanges; the rest is learned anew with it",
    )

    centred: bool = Field(
        default=False,
        description="frequency zero of the data of complex images lies in the middle, "
        "fftshift(fft2(ifftshift(x))); otherwise first, fft2(x)",
    )
    norm: Literal["ortho", "backward"] = Field(
        default="ortho",
        description="of the transform behind the data; backward has no factor, as numpy.fft.fft2",
    )

    @model_validator(mode="after")
    def _fits(self) -> FourierMask:
        drawn = [k for k in ("acceleration", "centre_fraction", "seed") if self._asked_for(k)]
        if self.mask is not None and (drawn or self.learn):
            what = "a mask is read from a file, drawn or learned"
            others = [*drawn, *(["learn"] if self.learn else [])]
            raise Unfit("mask", what, given=f"mask and {' and '.join(others)}")
        for key in ("by", "binarise"):
            if not self.learn and self._asked_for(key):
                advice = 'add learn = ["mask"]'
                raise Unfit(key, "only a learned mask has this", advice=advice)
        return self

    def _asked_for(self, key: str) -> bool:
        return getattr(self, key) != type(self).model_fields[key].default

    @property
    def size_taken(self) -> tuple[int, int] | None:
        """That of the picture."""
        if self.mask is None:
            return None
        h, w = black_and_white("mask", self.mask).shape
        return h, w

    @property
    def smallest(self) -> int:
        """A width at which some lines are kept."""
        return 4 * math.ceil(self.acceleration)

    @property
    def left_open(self) -> str | None:
        """The mask, if it is learned."""
        return "learn" if self.learn else None

    @property
    def binarises(self) -> bool:
        """Of a learned mask, if it is asked for."""
        return bool(self.learn) and self.binarise

    def build(self, shape: Shape) -> Operator:
        """Lines drawn anew for every size, the same ones for all images of a size."""
        return self.seeing(shape, self._arranged(self._mask(shape)))

    def seeing(self, shape: Shape, seen: Tensor) -> Operator:
        """Of real images, or of complex ones, which have two channels.

        Raises:
            Unfit: centred data of real images.
        """
        if shape[0] == 2:
            return operators.MultiCoil(seen, self._maps(shape), centred=self.centred)
        if self.centred:
            advice = "set complex = true in [data], or leave centred out"
            raise Unfit("centred", "centred data are those of complex images", advice=advice)
        return operators.FourierMask(seen)

    def _maps(self, shape: Shape) -> Tensor | None:
        """The sensitivities of the coils, of which there is one."""
        del shape

    def unit(self, data_shape: Shape) -> float:
        """√(h w) for a transform without factor: computing is orthonormal."""
        return 1.0 if self.norm == "ortho" else math.sqrt(data_shape[1] * data_shape[2])

    def sampled(self, y: Tensor) -> Tensor:
        """The data that are not 0.

        Raises:
            Unfit: data of several coils.
        """
        if y.shape[1] > 2 and y.shape[1] % 2 == 0:
            advice = 'take name = "multi-coil"'
            what = "data of several coils need the sensitivities of these"
            raise Unfit("name", what, given=f"{y.shape[1] // 2} coils", advice=advice)
        return kspace.sampled(y, centred=self.centred)

    def _mask(self, shape: Shape) -> Tensor:
        """What is seen, frequency zero first; all of it where the mask is learned.

        Raises:
            Unfit: a picture that cannot be read, is not black and white, or of another size.
        """
        size = shape[1], shape[2]
        if self.mask is None:
            drawn = line_mask(size, self.acceleration, self.centre_fraction, self.seed)
            return torch.ones_like(drawn) if self.learn else drawn
        seen = black_and_white("mask", self.mask)
        if seen.shape != size:
            given = f"an image of {size[0]}x{size[1]}"
            what = f"the mask is for images of {seen.shape[0]}x{seen.shape[1]} pixels"
            raise Unfit("mask", what, given=given)
        return cast(Tensor, torch.fft.ifftshift(seen))

    def fidelity(self, chosen: FidelitySettings, operator: Operator, shape: Shape) -> DataTerm:
        """With the mask as its weights, where it is learned.

        Raises:
            Unfit: another fidelity than squared-l2.
        """
        if not self.learn:
            return super().fidelity(chosen, operator, shape)
        if chosen.stands_for is not SquaredL2:
            advice = "leave [fidelity] out, or learn in [operator]"
            raise Unfit("name", "masks are learned with squared-l2", advice=advice)
        if chosen.data_taken is not None:
            what = "weights of the data are what a learned mask is"
            raise Unfit("name", what, advice="leave the file of weights or variances out")
        profile, kept, budget = self._budget(shape[1], shape[2])
        options = chosen.model_dump()
        learn = ("mask", *options["learn"])
        profile, kept = (self._arranged(part) for part in (profile, kept))
        return SampledL2(operator, profile, kept, budget, options["weight"], learn=learn)

    def accompanied(
        self, fidelity: DataTerm, pairs: Pairs, seen: Tensor | None
    ) -> tuple[DataTerm, Pairs]:
        """As for others; but a mask is learned from all of k-space.

        Raises:
            Unfit: data that were not all taken, and a mask to be learned.
        """
        if self.learn and seen is not None and not bool(seen.all()):
            given = f"{pairs.ids[0]} with zeros in {int((~seen).sum())} of {seen.numel()} places"
            what = "a mask is learned from data that are fully sampled"
            raise Unfit("learn", what, given=given)
        return super().accompanied(fidelity, pairs, seen)

    def _arranged(self, mask: Tensor) -> Tensor:
        """A mask with frequency zero first as the operator has it."""
        return kspace.centred_mask(mask) if self.centred else mask

    def _budget(self, h: int, w: int) -> tuple[Tensor, Tensor, float]:
        """First weights that decay with the frequency, those that are kept, and how many in all."""
        if self.by == "lines":
            frequency = _frequency(w)[None]
            kept = _nearest(w, round(w * self.centre_fraction))[None]
        else:
            frequency = torch.hypot(_frequency(h)[:, None], _frequency(w)[None])
            part = self.centre_fraction**0.5
            kept = _nearest(h, round(h * part))[:, None] & _nearest(w, round(w * part))[None]
        profile = (1 - frequency).clamp_min(0.0) ** _DECAY
        return profile, kept, float(round(profile.numel() / self.acceleration))


class MultiCoil(FourierMask):
    """The same of complex images, seen by several coils: parallel magnetic resonance."""

    for_complex: ClassVar[bool | None] = True
    coils: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None,
        description="how many, on a circle, 4 if none; those of a file are as many as it holds",
    )
    sensitivities: str = Field(
        default="birdcage",
        description='"birdcage", "estimated" for what the centre of k-space shows of them, a '
        "file of a complex array (coils, h, w), or a folder with one for each file of data, of its "
        "name",
    )

    @model_validator(mode="after")
    def _coils_fit(self) -> MultiCoil:
        if self.sensitivities == "estimated" and self.coils == 1:
            what = "a single coil has no sensitivities to be estimated"
            raise Unfit("coils", what, advice="set coils to 2 or more")
        if self.of_samples and self.learn:
            what = "a mask is learned for coils that all samples share"
            raise Unfit("learn", what, advice="name one file of sensitivities")
        if self._file and self.coils is not None:
            what = "the file of sensitivities says how many coils there are"
            raise Unfit("coils", what, given=self.coils, advice="leave coils out")
        return self

    def seeing(self, shape: Shape, seen: Tensor) -> Operator:
        """Of complex images, whatever the shape."""
        return operators.MultiCoil(seen, self._maps(shape), centred=self.centred)

    @property
    def _file(self) -> bool:
        return self.sensitivities not in WORDS

    @property
    def of_samples(self) -> bool:
        """With a folder of sensitivities."""
        return self._file and Path(self.sensitivities).is_dir()

    @property
    def _count(self) -> int:
        """How many coils there are."""
        if not self.of_samples:
            return self.coils or _COILS
        found = sorted(Path(self.sensitivities).glob("*.npy"))
        if not found:
            what = f"there are no arrays in the folder {Path(self.sensitivities).name}"
            raise Unfit("sensitivities", what, advice="save one a sample with numpy.save")
        return shape_of("sensitivities", str(found[0]))[-3]

    @property
    def size_taken(self) -> tuple[int, int] | None:
        """That of mask or sensitivities from a file."""
        own = super().size_taken
        if own is not None or not self._file or self.of_samples:
            return own
        shape = shape_of("sensitivities", self.sensitivities)
        return (shape[1], shape[2]) if len(shape) == 3 else None

    @property
    def left_open(self) -> str | None:
        """Mask or sensitivities."""
        return "sensitivities" if self.sensitivities == "estimated" else super().left_open

    def shared(self) -> MultiCoil:
        """With coils on a circle, if every sample has its own."""
        if not self.of_samples:
            return self
        return self.model_copy(update={"sensitivities": "birdcage", "coils": self._count})

    def check_measured(self) -> None:
        """Raise Unfit for targets whose phase estimated sensitivities cannot know."""
        if self.sensitivities == "estimated":
            what = "sensitivities estimated from data leave the phase of the targets open"
            advice = "name a file of sensitivities, or a folder with one for each file of data"
            raise Unfit("sensitivities", what, advice=advice)

    @property
    def varying(self) -> Collection[str]:
        """Sensitivities that come from the data, or with them."""
        given = self.sensitivities == "estimated" or self.of_samples
        return ("sensitivities",) if given else ()

    def sampled(self, y: Tensor) -> Tensor:
        """The data that are not 0 in all coils."""
        return kspace.sampled(y, centred=self.centred)

    def _maps(self, shape: Shape) -> Tensor | None:
        size = shape[1], shape[2]
        if not self._file or self.of_samples:
            maps = birdcage(size, self._count, dtype=torch.complex128)
            return None if self._count == 1 else maps
        return _maps_in(self.sensitivities, size)

    def _maps_of(self, name: str, data_shape: Shape) -> Tensor:
        """The sensitivities of the sample of that name, whose data have that shape.

        The first page of a stack has the name of its file and #1.
        """
        base, _, page = name.partition("#")
        stem, folder = _stem(base), Path(self.sensitivities)
        files = {normalised(path.stem): path for path in folder.glob("*.npy")}
        file = files.get(normalised(stem))
        if file is None:
            what = f"there are no sensitivities for {name} in the folder {folder.name}"
            raise Unfit("sensitivities", what, advice=f"save them as {stem}.npy")
        maps = _maps_in(str(file), data_shape[1:], int(page) if page else None)
        if 2 * len(maps) != data_shape[0]:
            what = f"{file.name} holds the sensitivities of {len(maps)} coils"
            raise Unfit("sensitivities", what, given=f"data of {data_shape[0] // 2} coils")
        return maps

    def shown_by(self, y: Tensor, operator: Operator, ids: Sequence[str]) -> Operator:
        """With the sensitivities that the middle of y shows, or of the one sample that y is of."""
        if not self.varying or not isinstance(operator, operators.MultiCoil):
            return operator
        if self.of_samples:
            if len(ids) != 1:
                what = "samples that were seen by other coils are not reconstructed together"
                raise Unfit("sensitivities", what, given=f"{len(ids)} names")
            maps = self._maps_of(ids[0], (y.shape[1], y.shape[2], y.shape[3]))
            return operators.MultiCoil(operator.mask, maps, centred=self.centred).to(y)
        side = min(round(y.shape[3] * self.centre_fraction), y.shape[2])
        if side < _LEAST:
            what = f"sensitivities need a centre of {_LEAST} lines or more"
            raise Unfit("centre_fraction", what, given=f"{side} of {y.shape[3]} lines")
        maps = estimated_sensitivities(y, side, centred=self.centred)
        return operators.MultiCoil(operator.mask, maps, centred=self.centred).to(y)

    def accompanied(
        self, fidelity: DataTerm, pairs: Pairs, seen: Tensor | None
    ) -> tuple[DataTerm, Pairs]:
        """With the sensitivities of each sample, if a folder holds them."""
        if not self.of_samples:
            return super().accompanied(fidelity, pairs, seen)
        shape = pairs.y.shape[1], pairs.y.shape[2], pairs.y.shape[3]
        maps = torch.stack([self._maps_of(name, shape) for name in pairs.ids])
        mask = seen[:, None] if seen is not None and seen.ndim == 3 else None
        data = OwnCoils.data(pairs.y, maps, mask)
        return OwnCoils(cast(Fidelity, fidelity)), replace(pairs, y=data)

    def aligned(self, pairs: Pairs, operator: Operator) -> Pairs:
        """Targets as all of k-space would give them with the sensitivities estimated.

        These are known up to a phase at each pixel, which moves to the images: Σ S̄'_k S_k x.
        """
        own = self.shown_by(pairs.y, operator, pairs.ids)
        if own is operator or not isinstance(own, operators.MultiCoil):
            return pairs
        given = cast(operators.MultiCoil, operator).sensitivities
        factor = (own.sensitivities.conj() * given.to(own.sensitivities)).sum(0)
        x = factor * torch.complex(*pairs.target.chunk(2, 1))
        return replace(pairs, target=torch.cat([x.real, x.imag], 1))


def _stem(name: str) -> str:
    """Of a file, or of what is called like one, without a suffix that files of data have."""
    place = Place.of(name)
    known = place.key is not None or place.suffix in SUFFIXES
    return place.stem if known else place.path.name


def _maps_in(file: str, size: tuple[int, int], page: int | None = None) -> Tensor:
    """The complex array (coils, h, w) of a file, for images of that size; or of a page, from 1."""
    dims = 3 if page is None else 4
    array = array_in("sensitivities", file, "c", (dims,)).astype(np.complex128)
    if page is not None and page > len(array):
        what = f"{Path(file).name} holds the sensitivities of {len(array)} pages"
        raise Unfit("sensitivities", what, given=f"page {page}")
    maps = torch.from_numpy(array if page is None else array[page - 1])
    finite = bool(torch.view_as_real(maps).isfinite().all())
    if not finite or not bool(maps.any()):
        what = f"those in {Path(file).name} are {'zero everywhere' if finite else 'not all finite'}"
        raise Unfit("sensitivities", what, advice="check how they were estimated")
    if maps.shape[1:] != size:
        h, w = maps.shape[1:]
        given = f"an image of {size[0]}x{size[1]}"
        what = f"those in {Path(file).name} are for images of {h}x{w} pixels"
        raise Unfit("sensitivities", what, given=given)
    return maps


def _frequency(count: int) -> Tensor:
    """Of each line, 0 to 1, frequency zero first."""
    return 2 * cast(Tensor, torch.fft.fftfreq(count, dtype=torch.float64)).abs()


def _nearest(count: int, kept: int) -> Tensor:
    """So many lines around frequency zero."""
    found = torch.zeros(count, dtype=torch.bool)
    found[_frequency(count).argsort(stable=True)[:kept]] = True
    return found
