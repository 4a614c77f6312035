from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bilevel.learn import Fit, Record
from bilevel.report import Scores
from bilevel.report.figures import (
    accuracy_chart,
    gains_chart,
    gradient_chart,
    loss_chart,
    paths_chart,
    psnr_chart,
)
from report.examples import make_samples, unproved

CHARTS = [loss_chart, psnr_chart, accuracy_chart, gradient_chart]


def checked(svg: str) -> str:
    """The text of a chart, which is well-formed, accessible, and fetches nothing."""
    ET.fromstring(f'<html xmlns:xlink="x">{svg}</html>')
    assert svg.startswith('<svg class="chart" role="img" aria-label="')
    assert "http" not in svg
    ids = re.findall(r' id="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]*)\)", svg)) <= set(ids)
    assert not re.search(r"\bnan\b", svg)
    assert "<style" not in svg
    return svg


def labels(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", checked(svg))


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("count", [1, None])
def test_charts_of_histories(chart: Callable[[Sequence[Record]], str], count, tiny_fit) -> None:
    checked(chart(tiny_fit.history[:count]))


@pytest.mark.parametrize("chart", CHARTS)
def test_charts_where_nothing_is_proved(chart, tiny_fit: Fit) -> None:
    checked(chart([unproved(r) for r in tiny_fit.history]))
    lost = [replace(r, value=math.nan, gradient_norm=math.nan) for r in tiny_fit.history]
    checked(chart(lost))


def test_interval_is_shaded_only_where_it_is_proved(tiny_fit: Fit) -> None:
    proved = [replace(r, interval=1e-4) for r in tiny_fit.history]
    assert "proved interval" in checked(loss_chart(proved))
    assert "proved interval" not in checked(loss_chart([unproved(r) for r in proved]))


def test_a_wide_interval_does_not_flatten_the_loss(tiny_fit: Fit) -> None:
    narrow = loss_chart([replace(r, interval=1e-9) for r in tiny_fit.history])
    wide = loss_chart([replace(r, interval=1e3) for r in tiny_fit.history])
    assert labels(narrow) == labels(wide)


def test_accuracy_says_when_no_distance_is_proved(tiny_fit: Fit) -> None:
    assert "no distance is proved" not in accuracy_chart(tiny_fit.history)
    chart = accuracy_chart([unproved(r) for r in tiny_fit.history])
    assert "no distance is proved" in chart
    assert "largest certificate" not in chart


def test_accuracy_marks_what_was_missed(tiny_fit: Fit) -> None:
    met = [replace(r, uncertified=0, certificate=1e-4) for r in tiny_fit.history]
    assert "missed" not in checked(accuracy_chart(met))
    assert "missed" in checked(accuracy_chart([*met[:-1], replace(met[-1], uncertified=1)]))


def test_gradient_shows_bound_and_estimate_where_known(tiny_fit: Fit) -> None:
    known = [replace(r, error=1e-3, estimate=1e-4) for r in tiny_fit.history]
    chart = checked(gradient_chart(known))
    assert "proved error" in chart
    assert "estimated error" in chart
    chart = gradient_chart([unproved(r) for r in known])
    assert "proved error" not in chart
    assert "estimated error" not in chart


def test_paths_are_logarithmic_only_if_they_can_be(tiny_fit: Fit) -> None:
    steps = len(tiny_fit.history)
    path = [10.0 ** (-2 * k) for k in range(steps)]
    assert "10⁻⁴" in labels(paths_chart(tiny_fit.history, {"weight": path}))
    assert "10⁻⁴" not in labels(paths_chart(tiny_fit.history, {"shift": [-v for v in path]}))


def test_axes_have_units(tiny_fit: Fit) -> None:
    assert "mean loss [grey value²]" in loss_chart(tiny_fit.history)
    assert "[dB]" in psnr_chart(tiny_fit.history)
    assert "rms accuracy [grey value]" in accuracy_chart(tiny_fit.history)


def test_gains_name_few_images_and_not_many() -> None:
    few = {"training": Scores.of(make_samples(2)), "held-out": Scores.of(make_samples(1))}
    chart = checked(gains_chart(few))
    assert chart.count("sample-0") == 2
    assert "held-out" in chart
    many = checked(gains_chart({"evaluated": Scores.of(make_samples(40, shape=(1, 4, 4)))}))
    assert "sample-0" not in many


def test_gains_of_equal_images() -> None:
    checked(gains_chart({"evaluated": Scores.of(make_samples(1, after=0.0))}))


def test_charts_are_reproducible(tiny_fit: Fit) -> None:
    assert loss_chart(tiny_fit.history) == loss_chart(tiny_fit.history)


def test_odd_labels_are_escaped(tiny_fit: Fit) -> None:
    values = {'a<b>&"c"': [1.0] * len(tiny_fit.history)}
    checked(paths_chart(tiny_fit.history, values))
