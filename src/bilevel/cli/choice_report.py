"""What was chosen, as a page, as numbers, and as a table in the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from torch import Tensor

from bilevel.cli.console import INTERRUPTED, finish, results, say
from bilevel.cli.learning import REPORT
from bilevel.cli.record import finite
from bilevel.report import (
    ENDINGS,
    Chosen,
    Compared,
    chosen,
    compare_page,
    compare_table,
    compare_verdict,
    summaries,
    write_page,
)
from bilevel.report.choices import failures
from bilevel.select import Choice
from bilevel.select.compare import LEARNED, ORACLE

__all__ = ["entry", "unanswered", "write_report"]

NUMBERS = "choices.json"


def write_report(
    compared: Sequence[Compared],
    out: Path,
    configuration: Mapping[str, Any],
    *,
    title: str,
    interrupted: bool = False,
    failed: Sequence[str] = (),
) -> None:
    """``report.html`` and ``choices.json``, and a table on standard output.

    ``failed`` says what nothing came of, and why.

    Raises:
        InputError: the folder cannot be written to.
        typer.Exit: with code 130 if the work was interrupted, 3 if something failed or there is an
            image for which no rule found a weight.
    """
    if not compared:
        say("interrupted before there was anything to report", owed=True)
        raise typer.Exit(INTERRUPTED)
    for name, why in failures(compared).items():
        say(f"leaving out {name}: {why}")
    page = compare_page(compared, configuration=configuration, title=title)
    text = json.dumps(_json(compared, configuration, interrupted), indent=1, allow_nan=False)
    path, numbers = write_page(out / REPORT, page), write_page(out / NUMBERS, text)
    console = results()
    console.print(compare_table(summaries(compared).values()))
    for sentence in compare_verdict(compared):
        console.print(sentence, markup=False)
    console.print(f"numbers: {numbers}\nreport:  {path}", markup=False, soft_wrap=True)
    if interrupted:
        say(f"interrupted: the report in {out} tells of what was done until then", owed=True)
        raise typer.Exit(INTERRUPTED)
    finish([*failed, *unanswered(compared)])


def unanswered(compared: Sequence[Compared]) -> list[str]:
    """Images for which no rule found a weight, with the first reason."""
    rows = [row for row in chosen(compared) if row.rule not in (LEARNED, ORACLE)]
    answered = {row.image for row in rows if ENDINGS[row.outcome].answered}
    first = {row.image: row for row in reversed(rows) if row.image not in answered}
    return [
        f"{image}: {row.rule}: {row.outcome.value}; {row.advice}"
        for image, row in reversed(first.items())
    ]


def _json(
    compared: Sequence[Compared], configuration: Mapping[str, Any], interrupted: bool
) -> dict[str, Any]:
    """Everything but images; null stands for what is not proved or not known."""
    images: dict[str, dict[str, Any]] = {}
    for group in compared:
        for row in chosen([group]):
            choice = group.comparison.choices[row.rule]
            found = entry(row, choice, group.ids.index(row.image))
            images.setdefault(row.image, {})[row.rule] = found
    return {
        "images": images,
        "rules": {
            name: {"found": s.found, "psnr": finite(s.psnr), "cost": vars(s.cost)}
            for name, s in summaries(compared).items()
        },
        "failures": dict(failures(compared)),
        "interrupted": interrupted,
        "configuration": configuration,
    }


def entry(row: Chosen, choice: Choice, k: int) -> dict[str, Any]:
    """What a rule chose for image k; null stands for what is not proved or not known."""
    weights, values = choice.curve.row(k)
    return {
        "weight": row.weight,
        "criterion": finite(row.value),
        "outcome": row.outcome.name,
        "advice": row.advice,
        "certificate": finite(row.certificate),
        "psnr": finite(row.psnr),
        "ssim": finite(row.ssim),
        "peak": row.peak,
        "curve": {"weight": _list(weights), "criterion": _list(values)},
    }


def _list(values: Iterable[Tensor]) -> list[float | None]:
    return [finite(float(value)) for value in values]
