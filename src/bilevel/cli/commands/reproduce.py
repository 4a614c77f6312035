"""``bilevel reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bilevel.cli.commands.learn import DataOption
from bilevel.cli.running import LogOption, QuietOption, ThreadsOption, out_option

__all__ = ["reproduce"]


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Which paper; without it, a list of all.", show_default=False
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="On small pictures that are embedded, within two minutes."),
    ] = False,
    data: DataOption = None,
    out: Annotated[Path | None, out_option("Folder for the results.", default="runs/NAME")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="N",
            help="How long learning may take in all, where a paper's models are learned by budget.",
            show_default=False,
        ),
    ] = None,
    go_on: Annotated[
        bool,
        typer.Option(
            "--go-on",
            help="Take the fits that a stopped run has finished in --out.",
        ),
    ] = False,
    page: Annotated[
        bool,
        typer.Option("--page", help="Only write the pages anew, from the results in --out."),
    ] = False,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    log: LogOption = None,
) -> None:
    """Run the experiment of a paper again, and write what came out beside the paper's figures.

    Needs a clone of the repository, whose folder reproductions holds a script, the results and a
    page for each paper; without a name they are listed with the time they take on two cores.
    Writes results.json, README.md, report.html and pictures. Seeds are fixed; what ends by
    --minutes depends on the machine. Ctrl-C ends it; fits stay in DIR/fits, and --go-on
    takes those that were finished.
    """
    from bilevel.cli.console import results, say
    from bilevel.cli.reproducing import find, rewrite, rows, run_and_report
    from bilevel.cli.running import running
    from bilevel.ground.checks import check_positive
    from bilevel.ground.errors import InputError

    folder = find()
    if name is None:
        if quick or page or go_on or data is not None or out is not None or minutes is not None:
            raise InputError("which paper?", advice="`bilevel reproduce` lists their names")
        console = results()
        found = rows(folder)
        width = max(len(row[0]) for row in found)
        for one, title, time in found:
            console.print(f"[cyan]{one.ljust(width)}[/cyan]  {title} ({time})", soft_wrap=True)
        return
    if page and (quick or go_on or data is not None or minutes is not None):
        advice = "leave out --quick, --data, --minutes and --go-on"
        raise InputError("--page runs nothing, and takes the results as they are", advice=advice)
    if minutes is not None:
        check_positive(minutes, "--minutes")
    with running(quiet=quiet, json=False, log=log, threads=threads):
        if page:
            where = rewrite(folder, name, out)
        else:
            where = run_and_report(
                folder, name, quick=quick, out=out, data=data, minutes=minutes, go_on=go_on
            )
        say(f"written: {where / 'report.html'}, README.md and results.json")
