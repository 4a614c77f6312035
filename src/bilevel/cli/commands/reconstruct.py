"""``bilevel reconstruct``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilevel.cli.commands.evaluate import AccuracyOption, FitArgument
from bilevel.ground.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from bilevel.cli.images import Batch
    from bilevel.cli.reconstruction import Reconstructor

__all__ = ["reconstruct"]

Pictures = list[tuple[str, "Tensor"]]


def reconstruct(
    fit: FitArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG, TIFF or NPY files.")
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
    accuracy: AccuracyOption = 1e-3,
) -> None:
    """Reconstruct images with learned parameters.

    Writes NAME.png, 16 bits deep; with --simulate also NAME-before.png. Exit code 3 if one missed
    the accuracy, or with --simulate is further from the truth than the data.
    """
    from bilevel.cli.console import check_writable, finish, say
    from bilevel.cli.images import by_size, check_names, fitting, read_images
    from bilevel.cli.progress import Counter
    from bilevel.cli.reconstruction import Reconstructor
    from bilevel.data import save_image
    from bilevel.report.words import plural

    reconstructor = Reconstructor.load(fit, accuracy)
    configuration = reconstructor.configuration
    check_names(images, check_writable(out))
    found = read_images(images, channels=configuration.data.channels)
    if simulate:
        found = [(name, fitting(configuration, image)) for name, image in found]
    work = _from_sharp if simulate else _from_data
    pictures, missing = work(reconstructor, by_size(found), Counter("reconstructing", len(found)))
    out.mkdir(parents=True, exist_ok=True)
    for name, image in pictures:
        save_image(out / f"{name}.png", image, bits=16)
    say(f"wrote {plural(len(pictures), 'picture')} to {out}")
    finish(missing)


def _from_sharp(
    reconstructor: Reconstructor, batches: Sequence[Batch], done: Callable[[int], None]
) -> tuple[Pictures, list[str]]:
    """Degrade and reconstruct; tells how good it is."""
    from bilevel.cli.console import results
    from bilevel.cli.reconstruction import simulated
    from bilevel.report import Scores, scores_table

    samples = [
        reconstructor.samples(simulated(reconstructor.configuration, batch), done)
        for batch in batches
    ]
    scores = Scores.of(samples)
    results().print(scores_table(scores))
    pictures = [
        (f"{Path(name).stem}{suffix}", image)
        for batch in samples
        for suffix, images in (("", batch.after), ("-before", batch.before))
        for name, image in zip(batch.ids, images, strict=True)
    ]
    return pictures, scores.shortfalls


def _from_data(
    reconstructor: Reconstructor, batches: Sequence[Batch], done: Callable[[int], None]
) -> tuple[Pictures, list[str]]:
    """Reconstruct; tells how far from the exact minimisers that may be."""
    from rich.markup import escape
    from rich.table import Table

    from bilevel.cli.console import results
    from bilevel.cli.settings.operators import FourierMask
    from bilevel.report import ENDINGS
    from bilevel.report.words import proved
    from bilevel.solve import Status

    if isinstance(reconstructor.configuration.operator, FourierMask):
        advice = "give sharp images and --simulate"
        raise InputError("Fourier data cannot be read from pictures", advice=advice)
    table = Table("image", "certified rms", "solve")
    pictures: Pictures = []
    missing: list[str] = []
    for batch in batches:
        answer = reconstructor.answer(batch.images, done)
        for k, name in enumerate(batch.ids):
            ending = ENDINGS[Status(int(answer.status[k]))]
            table.add_row(escape(name), proved(float(answer.certificate[k])), ending.words)
            if not ending.answered:
                missing.append(f"{name} missed the accuracy ({ending.words})")
            pictures.append((Path(name).stem, answer.x[k]))
    results().print(table)
    return pictures, missing
