"""``bilevel race``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bilevel.cli.commands.learn import ConfigArgument, DataOption, ImportOption
from bilevel.cli.running import out_option

__all__ = ["race"]


def race(
    config: ConfigArgument,
    algorithms: Annotated[
        str,
        typer.Option(
            "--algorithms",
            metavar="A,B,...",
            help="Names from `bilevel list algorithms`, or all. The configuration's own algorithm "
            "keeps its options, the others have their defaults.",
        ),
    ],
    out: Annotated[Path, out_option("Folder for report.html and race.json.")],
    seconds: Annotated[
        float | None,
        typer.Option("--budget-seconds", metavar="N", help="Of each algorithm."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--budget-steps", metavar="N", help="Outer steps of each algorithm."),
    ] = None,
    gradients: Annotated[
        int | None,
        typer.Option(
            "--budget-gradients", metavar="N", help="Gradient evaluations of each algorithm."
        ),
    ] = None,
    data: DataOption = None,
    parts: ImportOption = None,
) -> None:
    """Compare algorithms on one problem, from the same start and at equal budget.

    The configuration's budget holds for each, unless one is given here. Ctrl-C ends the race
    early and reports what is done.
    """
    del parts
    from bilevel.cli.config import read
    from bilevel.cli.racing import limits, race_and_report

    document = read(config)
    budget = limits(document.configuration, seconds, steps, gradients)
    race_and_report(document, algorithms, budget, out, data)
