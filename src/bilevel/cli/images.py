"""Sharp images for learning, evaluation and reconstruction, found, read and grouped by size."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from bilevel import data
from bilevel.cli.config import Configuration, Document
from bilevel.cli.config.configuration import EMBEDDED, DataSettings
from bilevel.cli.config.files import named
from bilevel.cli.settings.base import Unfit
from bilevel.data import ImageFile
from bilevel.ground.errors import InputError
from bilevel.ground.memory import physical_memory
from bilevel.ground.randomness import generator

__all__ = [
    "Batch",
    "LearningImages",
    "Measurements",
    "Reading",
    "about_file",
    "by_size",
    "check_targets",
    "fitting",
    "one_size",
    "sharp_images",
    "shuffled",
    "split",
]

Named = tuple[str, Tensor]
Source = tuple[str, Callable[[], Tensor]]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Batch:
    """Images (k, c, h, w) of one size and their ids.

    With data ``y`` (k, c', h', w') that were measured of them, if any were: all, or only those
    ``seen``, (h', w') for all samples or (k, h', w').
    """

    ids: tuple[str, ...]
    images: Tensor
    y: Tensor | None = None
    seen: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of every image, (c, h, w)."""
        return (self.images.shape[1], self.images.shape[2], self.images.shape[3])

    @property
    def differing(self) -> bool:
        """Whether the data of samples exist at places of their own."""
        return self.seen is not None and self.seen.ndim == 3

    def apart(self, *, each: bool = False) -> tuple[Batch, ...]:
        """Samples one by one where their data exist at places of their own, or in any case."""
        if not (each or self.differing):
            return (self,)
        known = self.seen
        seen = [known] * len(self.ids) if known is None or not self.differing else list(known)
        y = [None] * len(self.ids) if self.y is None else torch.split(self.y, 1)
        parts = zip(self.ids, torch.split(self.images, 1), y, seen, strict=True)
        return tuple(Batch((name,), x, data, one) for name, x, data, one in parts)

    def __str__(self) -> str:
        """How many and how large."""
        count, (_, h, w) = len(self.ids), self.shape
        kind = "image" if self.y is None else "measured pair"
        return f"{count} {kind}{'' if count == 1 else 's'} of {h}x{w}"


@dataclass(frozen=True, eq=False)
class Measurements:
    """Data (k, c', h', w') of images of one size that nobody knows, and their ids."""

    ids: tuple[str, ...]
    y: Tensor
    seen: Tensor | None
    shape: tuple[int, int, int]
    """Of every image, (c, h, w)."""

    def __str__(self) -> str:
        """How many and how large."""
        count, (_, h, w) = len(self.ids), self.y.shape[1:]
        return f"{count} measurement{'' if count == 1 else 's'} of {h}x{w}"


@dataclass(frozen=True)
class LearningImages:
    """Images to learn from, and images kept for the report, one batch a size.

    Or measurements to learn from, of which no image is known.
    """

    training: Batch | Measurements
    held_out: tuple[Batch, ...]


def sharp_images(document: Document, folder: str | None) -> LearningImages:
    """The images to simulate data from that a configuration names; only those needed are read.

    ``folder`` (else the environment variable BILEVEL_DATA) says where to look for folders that do
    not lie beside the configuration.

    Raises:
        InputError: folders that do not exist, too few images, or images that do not fit.
    """
    settings = document.configuration.data
    _check_memory(document)
    with document.blaming("data.images"):
        sources = _sources(document, folder)
    with document.blaming("data.count"):
        training, held_out = split(sources, settings)
    with document.blaming("data.images"):
        shown = [(name, load()) for name, load in training]
        kept = [(name, load()) for name, load in held_out]
    if settings.size is None:
        with document.blaming("data.images"):
            batch = one_size(by_size((n, fitting(document.configuration, x)) for n, x in shown))
        kept = [(name, fitting(document.configuration, x)) for name, x in kept]
        return LearningImages(batch, by_size(kept))
    with document.blaming("data.size"):
        batch = _crops(shown, settings, settings.count or len(shown))
        held = (_crops(kept, settings, settings.held_out),) if kept else ()
    return LearningImages(batch, held)


@dataclass(frozen=True)
class Reading:
    """How files of data are read; ``mask`` and ``missing`` say which pixels hold data."""

    grey: bool | None = None
    layout: data.Layout | None = None
    missing: bool = False
    mask: str | Path | None = None

    def file(self, path: Path) -> ImageFile:
        """All pages of a file.

        Raises:
            InputError: it is none, or a broken one.
        """
        own = data.load_file(path, grey=self.grey, layout=self.layout, missing=self.missing)
        return own if self.mask is None else data.Masks(self.mask).on(own)


def about_file(file: ImageFile) -> str | None:
    """What happened to the values of a file that its user may not expect; None if nothing did."""
    notes, storage = list(file.storage.notes), file.storage
    count = sum(int((~seen).sum()) for seen in file.seen if seen is not None)
    if count:
        notes.append(f"{count} pixels hold no data and do not count")
    if storage.complex:
        notes.append("complex numbers, whose results are complex where images are")
    if storage.unit > 1 and storage.suffix != ".png":
        unit = storage.unit
        low = round(min(float(page.min()) for page in file.pages) * unit)
        high = round(max(float(page.max()) for page in file.pages) * unit)
        notes.append(
            f"whole numbers from {low} to {high} count as grey values of {unit:g} (5 of them are "
            f"5/{unit:g}), offsets stay in, and results are in the numbers of the file"
        )
    return f"{file.name}: {'; '.join(notes)}" if notes else None


def check_targets(
    stem: Path, file: ImageFile, form: data.Format | None, given: Iterable[Path]
) -> None:
    """No result of a file may be written over a file given (absolute paths).

    Raises:
        InputError: one would be.
    """
    target = data.results_path(stem, file.storage, form)
    if target.resolve() in given:
        advice = "choose another folder with --out"
        raise InputError(f"'{target}' would be overwritten", advice=advice)


def by_size(images: Iterable[Named]) -> tuple[Batch, ...]:
    """One batch for each size, in the order of first appearance."""
    groups: defaultdict[torch.Size, list[Named]] = defaultdict(list)
    for name, image in images:
        groups[image.shape].append((name, image))
    return tuple(
        Batch(tuple(name for name, _ in group), torch.cat([image for _, image in group]))
        for group in groups.values()
    )


def fitting(configuration: Configuration, image: Tensor) -> Tensor:
    """The middle of an image with sides that the operator takes."""
    multiples = configuration.operator.multiples
    h, w = (n - n % multiple for n, multiple in zip(image.shape[2:], multiples, strict=True))
    return image if (h, w) == image.shape[2:] else data.centre_crop(image, (h, w))


def _check_memory(document: Document) -> None:
    """Crops must fit into this machine before any is cut."""
    settings, memory = document.configuration.data, physical_memory()
    if settings.size is None or memory is None:
        return
    count = max(settings.count or 1, settings.held_out)
    needed = 4 * count * settings.channels * settings.size**2
    if needed > memory:
        large = "count" if count > settings.size else "size"
        key = f"data.{large if count != settings.held_out else 'held_out'}"
        with document.blaming(key):
            what = f"{count} crops of {settings.size}x{settings.size} take {needed / 2**30:.3g} GiB"
            given = f"a machine with {memory / 2**30:.3g} GiB"
            raise InputError(what, given=given, advice="ask for fewer or smaller ones")


def _sources(document: Document, folder: str | None) -> list[Source]:
    """Every image that there is, shuffled by the seed."""
    settings = document.configuration.data
    names = settings.images
    if names == EMBEDDED:
        if folder is not None:
            what = "--data names a folder, and the images are those in the package"
            raise InputError(what, advice="leave it out, or name a folder in it as images")
        found = [(n, _embedded(n, grey=settings.grey)) for n in data.embedded_names()]
    else:
        found: list[Source] = []
        for name in [names] if isinstance(names, str) else names:
            named("data.images", name)
            listed = data.list_images(_folder(name, document.folder, folder))
            found += [(path.name, _file(path, settings)) for path in listed]
    for name, times in Counter(name for name, _ in found).items():
        if times > 1:
            raise InputError("every image needs a name of its own", given=f"{name} {times} times")
    return [found[k] for k in shuffled(len(found), settings.seed)]


def shuffled(count: int, seed: int) -> list[int]:
    """The numbers 0 to count - 1 in the order of that seed."""
    return [int(k) for k in torch.randperm(count, generator=generator(seed, "images"))]


def _embedded(name: str, *, grey: bool) -> Callable[[], Tensor]:
    return lambda: data.embedded_image(name, grey=grey)


def _file(path: Path, settings: DataSettings) -> Callable[[], Tensor]:
    def load() -> Tensor:
        image = data.load_image(path, grey=settings.grey, layout=settings.layout)
        check_complex(settings, path.name, complex=image.shape[1] == 2)
        return image

    return load


def check_complex(settings: DataSettings, name: str, *, complex: bool) -> None:
    """Raise InputError for images that are real or complex, and not said to be."""
    if complex != settings.complex:
        kind, value = ("complex", "true") if complex else ("real", "false")
        advice = f"set complex = {value} in [data]"
        raise InputError(f"{name} holds a {kind} image", advice=advice)


def _folder(name: str, beside: Path, folder: str | None) -> Path:
    """A folder beside the configuration or inside the data folder."""
    larger = data.find_data(folder)
    places = [beside / name] + ([] if larger is None else [larger / name])
    for place in places:
        if place.is_dir():
            return place
    if larger is None:
        advice = f"give --data DIR or set BILEVEL_DATA to the folder that holds '{name}'"
        what = f"there is no folder '{name}' beside the configuration, and no data folder is named"
        raise InputError(what, advice=advice)
    advice = 'name an existing folder, or use images = "embedded"'
    raise InputError(
        f"there is no folder '{name}', neither beside the configuration nor in {larger}",
        advice=advice,
    )


def split(sources: Sequence[T], settings: DataSettings) -> tuple[list[T], list[T]]:
    """Files to learn from and files to hold out; no file serves both.

    Raises:
        InputError: there are too few.
    """
    have, held = len(sources), settings.held_out
    if held and have < 2:
        advice = "set held_out = 0 or give more images"
        raise Unfit("data.held_out", "holding images out needs at least 2 images", advice=advice)
    if settings.size is None:
        count = have - held if settings.count is None else settings.count
        if count < 1 or count + held > have:
            given = f"count + held_out = {max(count, 1) + held}"
            advice = "ask for fewer, or for crops with e.g. size = 96"
            raise InputError(f"there are {have} images", given=given, advice=advice)
        return list(sources[:count]), list(sources[have - held :])
    wanted = settings.count or max(have - held, 1)
    files = min(max(round(have * held / (wanted + held)), 1), held, have - 1)
    return list(sources[: have - files][:wanted]), list(sources[have - files :])


def one_size(found: Sequence[Batch]) -> Batch:
    """The one batch that there is.

    Raises:
        InputError: images of several sizes.
    """
    batch, *others = found
    if others:
        sizes = ", ".join(f"{b.shape[1]}x{b.shape[2]}" for b in found[:3])
        sizes += f" and {len(found) - 3} more" if len(found) > 3 else ""
        advice = "add e.g. size = 128 to learn from crops"
        raise InputError("the images differ in size", given=sizes, advice=advice)
    return batch


def _crops(images: Sequence[Named], settings: DataSettings, count: int) -> Batch:
    x, ids = data.crops(images, settings.size or 1, count, settings.seed)
    return Batch(ids, x)
