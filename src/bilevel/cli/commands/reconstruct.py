"""``bilevel reconstruct``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilevel.cli.commands.evaluate import AccuracyOption, FitArgument
from bilevel.cli.commands.learn import ImportOption
from bilevel.cli.commands.select import FormatOption, LayoutOption
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
    accuracy: AccuracyOption = None,
    parts: ImportOption = None,
    layout: LayoutOption = None,
    form: FormatOption = None,
) -> None:
    """Reconstruct images with learned parameters.

    Writes NAME.png, NAME.tif or NAME.npy as the data are; with --simulate also NAME-before. Exit
    code 3 if one missed the accuracy, or with --simulate is further from the truth than the data.
    """
    del parts
    from bilevel.cli.console import check_writable, finish, say
    from bilevel.cli.images import about_file, by_size, check_targets, fitting, read_files
    from bilevel.cli.progress import Counter
    from bilevel.cli.reconstruction import Reconstructor
    from bilevel.data import save_complex, save_results
    from bilevel.report.words import plural

    reconstructor = Reconstructor.load(fit, accuracy)
    configuration = reconstructor.configuration
    check_writable(out)
    layout = layout or configuration.data.layout
    data = configuration.data
    files = read_files(images, grey=data.grey, layout=layout, complex_=data.complex)
    check_targets(files, out, form)
    found = [page for file in files for page in zip(file.ids, file.pages, strict=True)]
    if simulate:
        found = [(name, fitting(configuration, image)) for name, image in found]
    work = _from_sharp if simulate else _from_data
    results, missing = work(reconstructor, by_size(found), Counter("reconstructing", len(found)))
    for about in filter(None, map(about_file, files)):
        say(about)
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        for suffix, pages in results.items():
            own = [pages[name] for name in file.ids]
            stem = out / f"{file.path.stem}{suffix}"
            if data.complex:
                save_complex(stem, own, file.storage)
            elif word := save_results(stem, own, file.storage, form)[1]:
                say(word)
    say(f"wrote {plural(len(found) * len(results), 'picture')} to {out}")
    finish(missing)


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

    from bilevel.cli.console import results
    from bilevel.cli.settings.operators import FourierMask
    from bilevel.report import ENDINGS
    from bilevel.report.words import proved
    from bilevel.solve import Status

    if isinstance(reconstructor.configuration.operator, FourierMask):
        what = "Fourier data are complex, and cannot be read from files yet"
        raise InputError(what, advice="give sharp images and --simulate")
    table = Table("image", "certified rms", "solve")
    found: dict[str, Tensor] = {}
    missing: list[str] = []
    for batch in batches:
        answer = reconstructor.answer(batch.images, done)
        for k, name in enumerate(batch.ids):
            ending = ENDINGS[Status(int(answer.status[k]))]
            table.add_row(escape(name), proved(float(answer.certificate[k])), ending.words)
            if not ending.answered:
                missing.append(f"{name} missed the accuracy ({ending.words})")
            found[name] = answer.x[k]
    results().print(table)
    return {"": found}, missing
