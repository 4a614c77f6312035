"""The [operator] table of several coils: their sensitivities made, estimated, read or brought."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from bilevel.cli.settings.arrays import array_in, shape_of
from bilevel.cli.settings.base import Unfit
from bilevel.cli.settings.magnetic import FourierMask
from bilevel.data import Pairs, Place, birdcage, estimated_sensitivities, kspace
from bilevel.data.places import SUFFIXES, normalised
from bilevel.model import operators
from bilevel.model.fidelities import DataTerm, Fidelity, OwnCoils
from bilevel.model.operators import Operator, Shape

__all__ = ["WORDS", "MultiCoil"]

WORDS = ("birdcage", "estimated")
"""Sensitivities that are no file."""
_COILS, _LEAST = 4, 4


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
