"""``bilevel evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bilevel.cli.commands.learn import ImportOption
from bilevel.cli.commands.select import LayoutOption
from bilevel.cli.running import out_option

__all__ = ["AccuracyOption", "evaluate"]

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
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR|CONFIG.toml...",
            help="Folders that `bilevel learn` wrote, configurations with the weights in them, or "
            "files with a table [rule] for a rule that chooses them.",
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help='Sharp images of any size: a folder, a file or a pattern; "embedded" for the '
            "pictures in the package.",
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
        out_option(
            "Folder for the page and the table.",
            default="in the folder of the fit; of several, here",
        ),
    ] = None,
    accuracy: AccuracyOption = None,
    parts: ImportOption = None,
    layout: LayoutOption = None,
) -> None:
    """Degrade sharp images as in learning, reconstruct them, and tell how good that is.

    Or reconstruct what was measured, and compare it with what it is of. Writes evaluation.html and
    evaluation.csv; of several sources, on the same data, with the differences to the first and
    their spread, also evaluation.tex. Exit code 3 if a reconstruction missed the accuracy, or they
    are further from the truth than the data.
    """
    del parts
    from bilevel.cli.evaluating import Given, evaluate_fit, evaluate_methods
    from bilevel.cli.reconstruction import Reconstructor

    given = Given.of(images, measured, target, layout)
    name = f"evaluation-{given.name}"
    if len(sources) == 1 and sources[0].suffix.lower() != ".toml":
        reconstructor = Reconstructor.load(sources[0], accuracy)
        evaluate_fit(reconstructor, given, sources[0] / name if out is None else out)
    else:
        evaluate_methods(sources, given, Path(name) if out is None else out, accuracy)
