"""Measurements to learn from: found, matched with their targets, checked and split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bilevel import data
from bilevel.cli.camera import taken
from bilevel.cli.config import Configuration, Document
from bilevel.cli.config.data import sought
from bilevel.cli.console import say
from bilevel.cli.images import (
    Batch,
    LearningImages,
    Measurements,
    by_size,
    check_complex,
    one_size,
    sharp_images,
    shuffled,
    split,
)
from bilevel.cli.settings.differing import CameraSettings
from bilevel.cli.settings.forward import OperatorSettings
from bilevel.data import kspace
from bilevel.ground.errors import InputError
from bilevel.model.operators import Shape

_PHASE = 0.2
"""Part of the energy of k-space that noise may contradict real images with."""

__all__ = [
    "data_batches",
    "existing",
    "learning_images",
    "measured_batches",
    "sampling",
    "shape_of",
]


def _alone(document: Document, folder: str | None) -> LearningImages:
    """The data that a configuration names, without targets.

    Raises:
        InputError: files that do not exist or do not fit, or crops.
    """
    configuration, settings = document.configuration, document.configuration.data
    with document.blaming("data.size"):
        if settings.size is not None or settings.held_out:
            what = "data without targets are learned from as they are"
            raise InputError(what, advice="leave out size and held_out")
    with document.blaming("data.measured"):
        paths = sought(settings.measured or [], "measured", document.folder, folder)
        files = opened(configuration, paths, settings.layout, of_data=True)
    with document.blaming("data.count"):
        chosen = split(shuffled(len(files), settings.seed), settings)[0]
    with document.blaming("data.measured"):
        named = [files[k] for k in chosen]
        one_size(by_size(named))
        ids, y = tuple(name for name, _ in named), torch.cat([page for _, page in named])
        seen = existing(configuration.operator, y, ids, [files.seen(k) for k in chosen])
        if seen is not None and seen.ndim == 3:
            what = "a criterion asks for data that exist at the same places in all samples"
            raise InputError(what, advice="learn from those of one mask, or name targets")
        shape = configuration.image_shape(shape_of(y))
        y = y / configuration.operator.unit(shape_of(y))
    _tell(files)
    return LearningImages(Measurements(ids, y, seen, shape), ())


def learning_images(document: Document, folder: str | None) -> LearningImages:
    """The images that a configuration asks for, with data where these were measured.

    ``folder`` (else the environment variable BILEVEL_DATA) says where to look for folders that do
    not lie beside the configuration.

    Raises:
        InputError: files that do not exist, too few, or that do not fit.
    """
    settings = document.configuration.data
    if settings.measured is None:
        return sharp_images(document, folder)
    if settings.mask is not None:
        with document.blaming("data.mask"):
            data.places(settings.mask)
    return (_alone if settings.target is None else _pairs)(document, folder)


def _pairs(document: Document, folder: str | None) -> LearningImages:
    """The pairs that a configuration names, some of them held out.

    Raises:
        InputError: files that do not exist, lack a partner or do not fit, or too few.
    """
    configuration, settings = document.configuration, document.configuration.data
    with document.blaming("data.measured"):
        paths = sought(settings.measured or [], "measured", document.folder, folder)
        measured = opened(configuration, paths, settings.layout, of_data=True)
    with document.blaming("data.target"):
        paths = sought(settings.target or [], "target", document.folder, folder)
        target = opened(configuration, paths, settings.image_layout)
        whole = paired(configuration, measured, target)
    with document.blaming("data.count"):
        learned, held = split(shuffled(len(whole), settings.seed), settings)
    with document.blaming("data.size"):
        size, seed = settings.size, settings.seed
        shown = whole.some(learned, size=size, count=settings.count, seed=seed)
        kept = whole.some(held, size=size, count=settings.held_out, seed=seed) if held else None
    with document.blaming("data.measured"):
        found = _batches(configuration, shown)
        held_out = () if kept is None else _batches(configuration, kept)
    with document.blaming("data.size"):
        training = one_size(found)
    _tell(measured, target)
    return LearningImages(training, held_out)


def _tell(*sources: data.Files) -> None:
    """What was done to the values of files, once where it is the same."""
    for files in sources:
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, notes in files.notes.items():
            groups.setdefault(notes, []).append(name)
        for notes, names in groups.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            say(f"{names[0]}{more}: {'; '.join(notes)}")


def measured_batches(
    configuration: Configuration, measured: Path, target: Path, layout: data.Layout | None
) -> tuple[Batch, ...]:
    """All pairs of files, one batch for each size.

    Raises:
        InputError: what lacks a partner or does not fit.
    """
    own = configuration.model_copy(
        update={"data": configuration.data.model_copy(update={"layout": layout})}
    )
    y = opened(own, data.places(measured), layout, of_data=True)
    x = opened(own, data.places(target), own.data.image_layout)
    return _batches(own, paired(own, y, x))


def opened(
    configuration: Configuration,
    paths: Sequence[Path],
    layout: data.Layout | None,
    *,
    of_data: bool = False,
) -> data.Files:
    """Files as the configuration takes them, of images or of data.

    Raises:
        InputError: one that cannot be read.
    """
    own = configuration.data
    return data.Files(
        paths,
        grey=own.grey,
        layout=layout,
        missing=of_data and own.missing is not None,
        masks=own.mask if of_data else None,
        dtype=configuration.dtype,
        through=partial(_light, configuration.camera) if of_data else None,
    )


def _light(camera: CameraSettings | None, file: data.ImageFile) -> data.ImageFile:
    """What the camera saw, and in the notes what was taken off."""
    shot = taken(file, camera)
    if shot.camera is None or shot.about is None:
        return file
    said = shot.about.removeprefix(f"{file.path.name}: ")
    return replace(shot.file, storage=replace(shot.file.storage, notes=(said,)))


def paired(configuration: Configuration, measured: data.Files, target: data.Files) -> data.Recorded:
    """The pairs of files.

    Raises:
        InputError: what lacks a partner or does not fit.
    """
    name, x = target[0]
    check_complex(configuration.data, name, complex=target.complex)
    operator = configuration.forward((x.shape[1], x.shape[2], x.shape[3]))
    return data.Recorded(measured, target, operator)


def data_batches(
    configuration: Configuration, file: data.ImageFile, ids: Sequence[str]
) -> list[Batch]:
    """Data in place of images, those together that have one size and exist at the same places."""
    groups: dict[object, list[tuple[str, Tensor, Tensor | None]]] = {}
    for name, page, known in zip(ids, file.pages, file.seen, strict=True):
        seen = existing(configuration.operator, page, [name], [known])
        own = name if configuration.operator.of_samples else None
        key = (page.shape, None if seen is None else seen.numpy().tobytes(), own)
        groups.setdefault(key, []).append((name, page, seen))
    return [
        Batch(
            tuple(name for name, _, _ in group),
            torch.cat([page / configuration.operator.unit(shape_of(page)) for _, page, _ in group]),
            seen=group[0][2],
        )
        for group in groups.values()
    ]


def sampling(operator: OperatorSettings, name: str, y: Tensor, channels: int) -> list[str]:
    """What data tell of themselves, in words, and what was done to them.

    Args:
        operator: what they are of.
        name: of the data.
        y: the data (b, c', h', w').
        channels: of the images.
    """
    seen = operator.sampled(y)
    if seen is None:
        return []
    unit, words = operator.unit(shape_of(y)), list[str]()
    if unit != 1:
        done = f"divided by √(h w) = {unit:g}, sigma too, as for an orthonormal transform"
        words.append(f"{name}: {done}")
    if channels == 1 and (part := kspace.contradiction(y)) > _PHASE:
        what = f"{100 * min(part / 4, 1):.0f} % of the energy of k-space is of no real image"
        words.append(f"warning: {name}: {what}; complex = true in [data] allows for a phase")
    if bool(seen.all()):
        return words
    columns, rows = seen.all(0), seen.all(1)
    kind, count, of = "points", int(seen.sum()), seen.numel()
    if bool((seen == columns).all()):
        kind, count, of = "columns", int(columns.sum()), len(columns)
    elif bool((seen == rows[:, None]).all()):
        kind, count, of = "rows", int(rows.sum()), len(rows)
    told = f"{name}: {count} of {of} {kind} of k-space hold data, zeros were not sampled"
    return [told, *words]


def _batches(configuration: Configuration, samples: data.Recorded) -> tuple[Batch, ...]:
    """One for each size, in memory."""
    found: list[Batch] = []
    everything = torch.arange(len(samples))
    for place in samples.places(everything, len(samples)):
        batch = samples.batch(everything[place])
        ids = tuple(samples.ids[int(k)] for k in place)
        known = [samples.seen(int(k)) for k in place]
        seen = existing(configuration.operator, batch.y, ids, known)
        y = batch.y / configuration.operator.unit(shape_of(batch.y))
        found.append(Batch(ids, batch.target, y, seen))
    return tuple(found)


def existing(
    operator: OperatorSettings, y: Tensor, ids: Sequence[str], known: Sequence[Tensor | None]
) -> Tensor | None:
    """Which data exist: (h', w') where all rows share them, else (b, h', w'); None if all do.

    Args:
        operator: what the data are of; it may tell by the data which of them were taken.
        y: the data (b, c', h', w').
        ids: their names.
        known: what masks and missing numbers say of each, (h', w').

    Raises:
        InputError: data that cannot be those of the operator.
    """
    each: list[Tensor | None] = []
    for name, row, mask in zip(ids, torch.split(y, 1), known, strict=True):
        taken = operator.sampled(row)
        if taken is None and kspace.suspected(row):
            what = f"{name} is complex and has whole lines of zeros, as k-space has where it "
            advice = "take the operator fourier-mask; centred = true puts zero into the middle"
            raise InputError(f"{what}was not sampled", advice=advice)
        each.append(mask if taken is None else taken if mask is None else taken & mask)
    if all(one is None for one in each):
        return None
    whole = torch.ones(y.shape[2:], dtype=torch.bool)
    found = torch.stack([whole if one is None else one for one in each])
    return found[0] if bool((found == found[0]).all()) else found


def shape_of(y: Tensor) -> Shape:
    """(c, h, w) of images (b, c, h, w)."""
    return y.shape[1], y.shape[2], y.shape[3]
