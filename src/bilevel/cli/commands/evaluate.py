"""``bilevel evaluate``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilevel.cli.commands.learn import ImportOption
from bilevel.cli.commands.select import LayoutOption
from bilevel.ground.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bilevel.cli.config import Configuration
    from bilevel.cli.images import Batch
    from bilevel.data import Layout
    from bilevel.report import Scores

__all__ = ["AccuracyOption", "FitArgument", "evaluate"]

FitArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder that `bilevel learn` wrote.")
]
AccuracyOption = Annotated[
    float | None,
    typer.Option(
        "--accuracy",
        metavar="RMS",
        help="Distance to the exact minimiser at which to stop, rms in grey values; a thousandth "
        "of the contrast unless given. Where none can be proved, 1 % of it as rms of the gradient.",
        show_default=False,
    ),
]


def evaluate(
    fit: FitArgument,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Sharp images of any size: a folder, a file or a pattern.",
            show_default=False,
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--measured",
            metavar="DIR",
            help="Measured data in place of degraded images, with --target.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--target",
            metavar="DIR",
            help="The images that the data are of, matched by file name, in stacks by number.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder for the page and the table.", show_default="in DIR"
        ),
    ] = None,
    accuracy: AccuracyOption = None,
    parts: ImportOption = None,
    layout: LayoutOption = None,
) -> None:
    """Degrade sharp images as in learning, reconstruct them, and tell how good that is.

    Or reconstruct what was measured, and compare it with what it is of. Writes evaluation.html and
    evaluation.csv. Exit code 3 if a reconstruction missed the accuracy, or they are further from
    the truth than the data.
    """
    del parts
    from bilevel.cli.console import check_writable, finish, results
    from bilevel.cli.progress import Counter
    from bilevel.cli.reconstruction import Reconstructor, simulated
    from bilevel.data import Place
    from bilevel.report import Scores, evaluation_page, scores_table, write_page

    source = _source(images, measured, target)
    reconstructor = Reconstructor.load(fit, accuracy)
    configuration = reconstructor.configuration
    place = Place.of(source)
    named = source if source.is_dir() else source.parent
    name = place.stem if place.path.is_file() else named.resolve().name
    folder = check_writable(fit / f"evaluation-{name}" if out is None else out)
    layout = layout or configuration.data.layout
    batches = _batches(configuration, source, target, layout)
    counter = Counter("reconstructing", sum(len(batch.ids) for batch in batches))
    samples = [
        reconstructor.samples(simulated(configuration, batch), counter, batch.seen)
        for batch in (part for whole in batches for part in whole.apart())
    ]
    peak = reconstructor.peak(samples)
    scores = Scores.of(samples, peak)
    title = f"{configuration.output.title}: {name}"
    page = write_page(
        folder / "evaluation.html",
        evaluation_page(reconstructor.fit, samples, title=title, peak=peak),
    )
    table = write_page(folder / "evaluation.csv", _csv(scores))
    console = results()
    console.print(scores_table(scores, most=len(scores)))
    console.print(f"table: {table}\npage:  {page}", markup=False, soft_wrap=True)
    finish(scores.shortfalls)


def _source(images: Path | None, measured: Path | None, target: Path | None) -> Path:
    """What is reconstructed: images after they were degraded, or data.

    Raises:
        InputError: both, neither, or data without a target.
    """
    if (images is None) == (measured is None):
        what = "either sharp images or measured data are evaluated"
        raise InputError(what, advice="give --images DIR, or --measured DIR and --target DIR")
    if (measured is None) != (target is None):
        what = "measured data and the images that they are of go together"
        raise InputError(what, advice="give --measured DIR and --target DIR")
    found = images if measured is None else measured
    assert found is not None
    return found


def _batches(
    configuration: Configuration, source: Path, target: Path | None, layout: Layout | None
) -> Sequence[Batch]:
    """One for each size."""
    from bilevel.cli.images import by_size, check_complex, fitting
    from bilevel.cli.measured import measured_batches
    from bilevel.data import Files

    if target is not None:
        return measured_batches(configuration, source, target, layout)
    files = Files(source, grey=configuration.data.grey, layout=layout)
    check_complex(configuration.data, str(source), complex=files.complex)
    return by_size((name, fitting(configuration, image)) for name, image in files)


def _csv(scores: Scores) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        [
            "image",
            "psnr_before",
            "psnr_after",
            "ssim_before",
            "ssim_after",
            "certified_rms",
            "solve",
            "peak",
        ]
    )
    for row in (*scores.rows, scores.mean):
        numbers = [
            row.psnr_before, row.psnr_after, row.ssim_before, row.ssim_after, row.certificate
        ]  # fmt: skip
        writer.writerow(
            [row.id, *(f"{value:.6g}" for value in numbers), row.status, f"{row.peak:.6g}"]
        )
    return buffer.getvalue()
