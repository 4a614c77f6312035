"""The stationarity test in words and as a chart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bilevel.learn import Fit
from bilevel.report import learning_page
from bilevel.report.convergence import (
    Stationarity,
    convergence_claims,
    stationarity_chart,
    tolerance,
)
from bilevel.report.standing import Standing
from report.examples import make_samples, unproved


@pytest.mark.parametrize(
    ("error", "estimate", "standing"),
    [
        (1e-4, math.nan, Standing.PROVED),
        (1.0, 1e-4, Standing.ESTIMATED),
        (1.0, 1.0, Standing.OPEN),
        (1.0, math.nan, Standing.OPEN),
        (math.inf, 1e-4, Standing.ESTIMATED),
        (math.inf, 1.0, Standing.OPEN),
        (math.inf, math.nan, Standing.OPEN),
    ],
)
def test_only_what_is_proved_is_called_so(
    error: float, estimate: float, standing: Standing
) -> None:
    found = Stationarity(projected=1e-3, error=error, estimate=estimate, scale=0.5, tol=3e-3)
    assert found.claim.standing is standing
    assert "‖projected gradient‖ = 0.001" in found.claim.text
    assert ("asked for" in found.claim.text) == math.isfinite(error)


def test_the_reached_tolerance_is_where_the_test_turns() -> None:
    at = Stationarity(projected=1e-3, error=2e-3, estimate=math.nan, scale=0.5)
    assert at.reached == pytest.approx(6e-3)
    assert replace(at, tol=at.reached * 1.001).claim.standing is Standing.PROVED
    assert replace(at, tol=at.reached * 0.999).claim.standing is Standing.OPEN


def test_the_tolerance_of_a_configuration() -> None:
    assert tolerance({"algorithm": {"tol": 1e-2}}) == 1e-2
    assert math.isnan(tolerance({"algorithm": {"name": "maid"}}))
    assert math.isnan(tolerance({}))


def test_fits_of_earlier_versions_claim_nothing(tiny_fit: Fit) -> None:
    old = replace(tiny_fit, history=tuple(replace(r, projected=math.nan) for r in tiny_fit.history))
    assert convergence_claims(old) == []
    assert len(convergence_claims(tiny_fit)) == 2


def test_the_page_shows_test_and_rate(tiny_fit: Fit) -> None:
    fit = replace(tiny_fit, configuration={"algorithm": {"tol": 3e-3}})
    html = learning_page(fit, training=make_samples(1))
    assert "‖projected gradient‖" in html
    assert "too few steps to tell a rate" in html
    assert "asked for: tol" in html


def test_the_chart_shows_what_is_known(tiny_fit: Fit) -> None:
    known = [replace(r, error=1e-3, estimate=1e-4) for r in tiny_fit.history]
    svg = stationarity_chart(known, 3e-3)
    for label in ("norm + proved error", "norm + estimated error", "asked for"):
        assert label in svg
    svg = stationarity_chart([unproved(r) for r in known])
    assert "error" not in svg
    assert "asked for" not in svg


def test_projected_norm_and_gradient_norm_agree_inside(tiny_fit: Fit) -> None:
    for line in tiny_fit.history:
        assert line.projected == pytest.approx(line.gradient_norm, rel=1e-5)
        assert line.scale == abs(line.value)


def test_a_rate_is_an_estimate_and_its_absence_is_open(tiny_fit: Fit) -> None:
    line = tiny_fit.history[0]
    falling = tuple(replace(line, step=t, projected=0.5**t) for t in range(20))
    rate = convergence_claims(replace(tiny_fit, history=falling))[1]
    assert rate.standing is Standing.ESTIMATED
    assert "by a factor of 0.5 a step (linear)" in rate.text
    assert convergence_claims(tiny_fit)[1].standing is Standing.OPEN


def test_the_axis_has_its_unit(tiny_fit: Fit) -> None:
    assert "projected gradient [dB]" in stationarity_chart(tiny_fit.history, unit="dB")
