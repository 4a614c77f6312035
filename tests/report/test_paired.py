"""Differences image by image, and the one table of them."""

from __future__ import annotations

import csv
import io
import math
import statistics

import pytest
import torch

import bilevel as bl
from bilevel.report import Difference, Method, Methods, Score, Scores, Seen, methods_page
from bilevel.report.paired import methods_csv, methods_latex
from bilevel.report.paired_page import methods_verdict


def scores(*levels: float) -> Scores:
    rows = (Score(f"i{k}", 20.0, p, 0.5, 0.8, 1e-3, "converged") for k, p in enumerate(levels))
    return Scores(tuple(rows))


def methods() -> Methods:
    return Methods(
        (
            Method("tv_1", scores(28.0, 30.0, 29.0, 31.0)),
            Method("experts", scores(28.5, 30.4, 29.6, 31.5)),
            Method("chance", scores(27.0, 31.1, 28.1, 31.9)),
        )
    )


def test_spread_is_that_of_pairs_and_not_of_images() -> None:
    found = methods().difference(methods().methods[1])
    assert found.mean == pytest.approx(0.5)
    assert found.standard_error == pytest.approx(statistics.stdev([0.5, 0.4, 0.6, 0.5]) / 2)
    assert found.better == 4 and found.told
    chance = methods().difference(methods().methods[2])
    assert chance.better == 2 and not chance.told
    assert math.isnan(Difference((1.0,)).standard_error) and not Difference((1.0,)).told


def test_what_is_not_told_apart_is_not_called_better() -> None:
    words = " ".join(methods_verdict(methods()))
    assert "experts comes nearest" in words and "do not tell" not in words
    found = Methods((methods().methods[0], methods().methods[2]))
    assert "do not tell them apart" in " ".join(methods_verdict(found))


def test_one_table_wherever_it_is_shown() -> None:
    found = methods()
    rows = list(csv.DictReader(io.StringIO(methods_csv(found))))
    assert len(rows) == 3 * (4 + 2)
    latex = methods_latex(found)
    assert r"tv\_1" in latex and "$+$0.50" in latex
    line = {name: cell for name, cell in zip(found.headings, list(found.lines())[1], strict=True)}
    assert line["less tv_1 [dB]"] == "+0.50" and line["better on"] == "4 of 4"
    x = {name: torch.rand(1, 40, 30) for name in ("tv_1", "experts", "chance")}
    seen = [Seen("i0", torch.rand(1, 40, 30), torch.rand(1, 40, 30), x)]
    page = methods_page(found, seen, remarks=["chance was made for other data"])
    for part in ("+0.50", "less tv_1 [dB]", "4 of 4", "chance was made for other data", "1 of 4"):
        assert part in page, part


def test_other_images_and_names_given_twice_are_refused() -> None:
    with pytest.raises(bl.InputError, match="same images"):
        Methods((Method("a", scores(1.0)), Method("b", scores(1.0, 2.0))))
    with pytest.raises(bl.InputError, match="name of their own"):
        Methods((Method("a", scores(1.0)), Method("a", scores(1.0))))
