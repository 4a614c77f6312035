"""Tables for the terminal: a fit, what it cost, and how good it is."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from bilevel.learn import Fit, Race
from bilevel.model import Cost
from bilevel.report.choices import Summary
from bilevel.report.claims import improvement
from bilevel.report.compare_words import ended, useful
from bilevel.report.comparison import Score, Scores
from bilevel.report.parameters import parameters
from bilevel.report.words import (
    count,
    difference,
    duration,
    level,
    number,
    proved,
    similarity,
)

__all__ = [
    "compare_table",
    "fit_table",
    "ledger_table",
    "parameters_table",
    "race_table",
    "scores_table",
]


def fit_table(fit: Fit) -> Table:
    """How learning went, in a few lines."""
    table = Table(title="Fit", show_header=False, title_justify="left")
    if fit.algorithm:
        table.add_row("learned by", fit.algorithm)
    table.add_row("ended", fit.reason)
    table.add_row("outer steps", count(max(len(fit.history) - 1, 0)))
    if fit.history:
        last = fit.history[-1]
        name, start, end = improvement(fit)
        table.add_row(name, f"{start} → {end}")
        table.add_row("gradient", number(last.gradient_norm))
        table.add_row("its proved error", proved(last.error))
        asked = f"{number(last.accuracy)} grey values (rms)"
        table.add_row("accuracy of the last step", asked)
        table.add_row("largest certificate", proved(last.certificate))
        table.add_row("samples that missed it", count(last.uncertified))
    return table


def parameters_table(fit: Fit) -> Table:
    """What was learned: start and end of every parameter."""
    table = Table("parameter", title="Learned", title_justify="left")
    table.add_column("start", justify="right")
    table.add_column("learned", justify="right")
    for p in parameters(fit):
        unit = f" [{p.unit}]" if p.unit else ""
        table.add_row(escape(f"{p.owner}: {p.name}{unit}"), p.start, p.learned)
    return table


def ledger_table(cost: Cost) -> Table:
    """What was spent."""
    table = Table(title="Cost", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("gradient evaluations", count(cost.gradient_evaluations))
    table.add_row("Hessian-vector products", count(cost.hvps))
    table.add_row("operator applications", count(cost.operator_applications))
    table.add_row("time", duration(cost.seconds))
    return table


def scores_table(scores: Scores, *, most: int = 20) -> Table:
    """PSNR, SSIM and certificate of the first ``most`` images, and the means over all."""
    title = f"Images (PSNR and SSIM for a peak of {number(scores.peak, 5)})"
    table = Table("image", title=title, title_justify="left", show_footer=False)
    for heading in ("PSNR before", "after", "gain [dB]", "SSIM before", "after", "certified rms"):
        table.add_column(heading, justify="right")
    table.add_column("solve")
    for row in scores.rows[:most]:
        table.add_row(*_cells(row))
    if len(scores) > most:
        table.add_row(f"… {count(len(scores) - most)} more")
    table.add_section()
    table.add_row(*_cells(scores.mean), style="bold")
    return table


def race_table(race: Race) -> Table:
    """Where every algorithm ended and what it took, from the lowest loss."""
    table = Table(title="Race", title_justify="left")
    table.add_column("algorithm", no_wrap=True)
    for heading in ("final loss", "proved ±", "gradient", "work to 1 %", "work", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("ended")
    for entry in race.ranked:
        table.add_row(
            escape(entry.name),
            number(entry.final.corrected, 5),
            proved(entry.final.interval),
            number(entry.projected),
            count(race.work(entry)) if entry in race.close else "never",
            count(entry.work),
            duration(entry.fit.cost.seconds),
            entry.fit.status.name.lower(),
            style="bold" if entry is race.winner else None,
        )
    return table


def compare_table(summaries: Iterable[Summary]) -> Table:
    """What every rule chose, and what it took."""
    found = list(summaries)
    truth = any(not math.isnan(summary.psnr) for summary in found)
    title = (
        f"Weights (PSNR and SSIM for a peak of {number(found[0].peak, 5)})" if truth else "Weights"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("rule", no_wrap=True)
    headings = [
        "weight",
        *(["PSNR [dB]", "SSIM"] if truth else []),
        "certified rms",
        "work",
        "time",
    ]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("outcome")
    for summary in found:
        low, high = (number(weight) for weight in summary.weights)
        quality = [level(summary.psnr), similarity(summary.ssim)] if truth else []
        table.add_row(
            escape(summary.rule),
            low if low == high else f"{low} … {high}",
            *quality,
            useful(summary),
            count(summary.cost.gradient_evaluations + summary.cost.hvps),
            duration(summary.cost.seconds),
            ended(summary),
        )
    return table


def _cells(row: Score) -> list[str]:
    return [
        escape(row.id),
        level(row.psnr_before),
        level(row.psnr_after),
        difference(row.gain),
        similarity(row.ssim_before),
        similarity(row.ssim_after),
        proved(row.certificate),
        row.status,
    ]
