"""``bilevel evaluate``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilevel.cli.commands.learn import ImportOption
from bilevel.cli.commands.select import LayoutOption

if TYPE_CHECKING:
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
        Path, typer.Option("--images", metavar="DIR", help="A folder of sharp images of any size.")
    ],
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

    Writes evaluation.html and evaluation.csv. Exit code 3 if a reconstruction missed the accuracy,
    or they are further from the truth than the data.
    """
    del parts
    from bilevel.cli.console import check_writable, finish, results
    from bilevel.cli.images import by_size, fitting, read_files
    from bilevel.cli.progress import Counter
    from bilevel.cli.reconstruction import Reconstructor, simulated
    from bilevel.data import list_images, load_images
    from bilevel.report import Scores, evaluation_page, scores_table, write_page

    reconstructor = Reconstructor.load(fit, accuracy)
    configuration = reconstructor.configuration
    folder = check_writable(fit / f"evaluation-{images.resolve().name}" if out is None else out)
    layout = layout or configuration.data.layout
    if configuration.data.complex:
        files = read_files(list_images(images), grey=None, complex_=True)
        found = [page for file in files for page in zip(file.ids, file.pages, strict=True)]
    else:
        found = load_images(images, grey=configuration.data.grey, layout=layout)
    batches = by_size((name, fitting(configuration, image)) for name, image in found)
    counter = Counter("reconstructing", len(found))
    samples = [reconstructor.samples(simulated(configuration, batch), counter) for batch in batches]
    peak = reconstructor.peak(samples)
    scores = Scores.of(samples, peak)
    title = f"{configuration.output.title}: {images.resolve().name}"
    page = write_page(
        folder / "evaluation.html",
        evaluation_page(reconstructor.fit, samples, title=title, peak=peak),
    )
    table = write_page(folder / "evaluation.csv", _csv(scores))
    console = results()
    console.print(scores_table(scores, most=len(scores)))
    console.print(f"table: {table}\npage:  {page}", markup=False, soft_wrap=True)
    finish(scores.shortfalls)


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
