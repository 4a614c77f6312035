"""``bilevel reconstruct``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilevel.cli.commands.evaluate import AccuracyOption, FitArgument
from bilevel.cli.commands.learn import ImportOption
from bilevel.cli.commands.select import (
    CameraOption,
    FormatOption,
    LayoutOption,
    MaskOption,
    MissingOption,
)
from bilevel.ground.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from bilevel.cli.images import Batch
    from bilevel.cli.reconstruction import Reconstructor

__all__ = ["reconstruct"]

Results = dict[str, dict[str, "Tensor"]]
"""By what is appended to the name of a file, and by the id of a page."""


def reconstruct(
    fit: FitArgument,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="PNG, JPEG, TIFF, NPY, DICOM, NIfTI; FILE or FILE:NAME of NPZ, HDF5, MAT.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the reconstructions.")
    ],
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate",
            help="The images are sharp: degrade them first, as in learning. "
            "Without it they are the data.",
        ),
    ] = False,
    accuracy: AccuracyOption = None,
    camera: CameraOption = None,
    parts: ImportOption = None,
    layout: LayoutOption = None,
    form: FormatOption = None,
    missing: MissingOption = False,
    mask: MaskOption = None,
) -> None:
    """Reconstruct images with learned parameters.

    Writes NAME.png, NAME.tif or NAME.npy as the data are; with --simulate also NAME-before. Exit
    code 3 if one missed the accuracy, or with --simulate is further from the truth than the data.
    """
    del parts
    from bilevel.cli.camera import camera_of, taken
    from bilevel.cli.console import check_writable, finish, say
    from bilevel.cli.images import Reading, by_size, check_targets, fitting
    from bilevel.cli.measured import data_batches
    from bilevel.cli.progress import Counter
    from bilevel.cli.reconstruction import Reconstructor
    from bilevel.data import save_results
    from bilevel.report.words import plural

    reconstructor = Reconstructor.load(fit, accuracy)
    configuration = reconstructor.configuration
    check_writable(out)
    if simulate and (missing or mask is not None):
        raise InputError("sharp images have data everywhere", advice="leave out --mask, --missing")
    own, data = configuration.data, not simulate
    files = Reading(
        own.grey,
        layout or own.layout,
        missing=missing or (data and own.missing is not None),
        mask=mask or (own.mask if data else None),
    ).files(images)
    check_targets(files, out, form)
    seen_by = camera_of(camera, configuration, simulate=simulate)
    shots = [taken(file, seen_by) for file in files]
    files = [shot.file for shot in shots]
    found = [page for file in files for page in zip(file.ids, file.pages, strict=True)]
    done = Counter("reconstructing", len(found))
    if simulate:
        sharp = by_size((name, fitting(configuration, image)) for name, image in found)
        results, short = _from_sharp(reconstructor, sharp, done)
    else:
        results, short = _from_data(reconstructor, data_batches(configuration, files), done)
    for about in filter(None, (shot.about for shot in shots)):
        say(about)
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        for suffix, pages in results.items():
            found_in = [pages[name] for name in file.ids]
            stem = out / f"{file.stem}{suffix}"
            if word := save_results(stem, found_in, file.storage, form)[1]:
                say(word)
    say(f"wrote {plural(len(found) * len(results), 'picture')} to {out}")
    finish(short)


def _from_sharp(
    reconstructor: Reconstructor, batches: Sequence[Batch], done: Callable[[int], None]
) -> tuple[Results, list[str]]:
    """Degrade and reconstruct; tells how good it is."""
    from bilevel.cli.console import results
    from bilevel.cli.reconstruction import simulated
    from bilevel.report import Scores, scores_table

    samples = [
        reconstructor.samples(simulated(reconstructor.configuration, batch), done)
        for batch in batches
    ]
    peak = reconstructor.peak(samples)
    scores = Scores.of(samples, peak)
    results().print(scores_table(scores))
    pages = {
        suffix: {
            name: image for ids, images in parts for name, image in zip(ids, images, strict=True)
        }
        for suffix, parts in (
            ("", [(batch.ids, batch.after) for batch in samples]),
            ("-before", [(batch.ids, batch.before) for batch in samples]),
        )
    }
    return pages, scores.shortfalls


def _from_data(
    reconstructor: Reconstructor, batches: Sequence[Batch], done: Callable[[int], None]
) -> tuple[Results, list[str]]:
    """Reconstruct; tells how far from the exact minimisers that may be."""
    from rich.markup import escape
    from rich.table import Table

    from bilevel.cli.console import results, say
    from bilevel.cli.measured import sampling
    from bilevel.report import ENDINGS
    from bilevel.report.words import proved
    from bilevel.solve import Status

    operator = reconstructor.configuration.operator
    channels = reconstructor.configuration.data.channels
    table = Table("image", "certified rms", "solve")
    found: dict[str, Tensor] = {}
    missing: list[str] = []
    for batch in batches:
        for words in sampling(operator, batch.ids[0], batch.images, channels):
            say(words)
        answer = reconstructor.answer(batch.images, done, batch.seen)
        for k, name in enumerate(batch.ids):
            ending = ENDINGS[Status(int(answer.status[k]))]
            table.add_row(escape(name), proved(float(answer.certificate[k])), ending.words)
            if not ending.answered:
                missing.append(f"{name} missed the accuracy ({ending.words})")
            found[name] = answer.x[k]
    results().print(table)
    return {"": found}, missing
