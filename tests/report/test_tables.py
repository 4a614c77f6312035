from __future__ import annotations

import io
import math
from dataclasses import replace

from rich.console import Console
from rich.table import Table

import bilevel as bl
from bilevel.learn import Fit
from bilevel.report import Scores, fit_table, ledger_table, parameters_table, scores_table
from report.examples import make_samples, unproved


def printed(table: Table) -> str:
    console = Console(width=140, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_fit(tiny_fit: Fit) -> None:
    text = printed(fit_table(tiny_fit))
    assert tiny_fit.reason in text
    assert f"{tiny_fit.history[-1].psnr:.2f}" in text
    lost = replace(tiny_fit, history=tuple(map(unproved, tiny_fit.history)))
    assert printed(fit_table(lost)).count("not proved") == 2
    assert tiny_fit.reason in printed(fit_table(replace(tiny_fit, history=())))


def test_parameters(tiny_fit: Fit) -> None:
    text = printed(parameters_table(tiny_fit))
    assert "Total variation: weight [1]" in text
    assert "Total variation: smoothing [grey value]" in text
    assert "0.02" in text


def test_ledger() -> None:
    text = printed(ledger_table(bl.Cost(12345, 67, 89, 61.0)))
    for part in ("12\u202f345", "67", "89", "1 min 1 s"):
        assert part in text


def test_scores() -> None:
    text = printed(scores_table(Scores.of(make_samples(3))))
    assert text.count("20.00") == 4
    assert "3 of 3 certified" in text
    text = printed(scores_table(Scores.of(make_samples(2, certificate=math.inf))))
    assert text.count("not proved") == 3


def test_many_scores_are_cut_and_counted() -> None:
    text = printed(scores_table(Scores.of(make_samples(5, shape=(1, 4, 4))), most=2))
    assert "sample-1" in text
    assert "sample-2" not in text
    assert "3 more" in text


def test_brackets_in_names_are_kept() -> None:
    samples = replace(make_samples(1), ids=["[red]a[/red]"])
    assert "[red]a[/red]" in printed(scores_table(Scores.of(samples)))
