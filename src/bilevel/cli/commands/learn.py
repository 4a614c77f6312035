"""``bilevel learn``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bilevel.cli.running import out_option

__all__ = ["ConfigArgument", "DataOption", "ImportOption", "learn"]

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG.toml", help="What to learn, and from which images.")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder of the image folders that are named, such as bsds500, unless these lie beside "
        "the configuration; otherwise the environment variable BILEVEL_DATA says so.",
        show_default=False,
    ),
]


def _imported(files: list[Path] | None) -> list[Path] | None:
    from bilevel.cli.catalogue import import_parts

    for path in files or ():
        import_parts(path)
    return files


ImportOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--import",
        metavar="FILE.py",
        help="Python file with parts of your own, which configurations then name; may be repeated.",
        callback=_imported,
        is_eager=True,
        show_default=False,
    ),
]


def learn(
    config: ConfigArgument,
    out: Annotated[Path, out_option("Folder for the fit and its report.")],
    data: DataOption = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the fit in DIR; the budget counts from there."),
    ] = False,
    parts: ImportOption = None,
) -> None:
    """Learn the parameters of a reconstruction, save them and write a report.

    Ctrl-C ends learning early and keeps the best parameters so far.
    """
    del parts  # imported when they were read
    from bilevel.cli.config import read
    from bilevel.cli.learning import learn_and_report

    learn_and_report(read(config), out, data, resume=resume)
