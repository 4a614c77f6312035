"""Rates of sequences whose law is known."""

from __future__ import annotations

import math
import random

import pytest

from bilevel.report.rates import Kind, fitted_rate


def noisy(values: list[float], size: float) -> list[float]:
    rng = random.Random(0)
    return [v * math.exp(size * rng.gauss(0, 1)) for v in values]


@pytest.mark.parametrize("factor", [0.1, 0.6, 0.95])
def test_geometric_sequences_are_linear(factor: float) -> None:
    found = fitted_rate(noisy([3 * factor**t for t in range(60)], 0.02))
    assert found.kind is Kind.LINEAR
    assert found.factor == pytest.approx(factor, rel=0.01)
    assert (found.first, found.last) == (30, 59)
    assert "a step (linear) over steps 30 to 59" in found.sentence("The loss")


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_powers_are_sublinear(exponent: float) -> None:
    found = fitted_rate(noisy([5 / max(t, 1) ** exponent for t in range(400)], 0.005))
    assert found.kind is Kind.SUBLINEAR
    assert found.exponent == pytest.approx(exponent, rel=0.05)
    assert "(sublinear)" in found.sentence("The loss")


def test_few_noisy_steps_fit_both_laws() -> None:
    found = fitted_rate(noisy([0.9**t for t in range(14)], 0.05))
    assert found.kind is Kind.EITHER
    assert "both laws fit about equally" in found.sentence("The loss")


def test_only_the_last_half_counts() -> None:
    found = fitted_rate([1.0] * 20 + [0.5**t for t in range(20)])
    assert found.kind is Kind.LINEAR
    assert found.factor == pytest.approx(0.5)


@pytest.mark.parametrize(
    "values",
    [noisy([1.0] * 50, 0.5), [1.1**t for t in range(40)], [1.0] * 40],
    ids=["noise", "growth", "standstill"],
)
def test_no_rate_where_nothing_falls(values: list[float]) -> None:
    found = fitted_rate(values)
    assert found.kind is Kind.NONE
    assert "no clear rate" in found.sentence("The loss")


@pytest.mark.parametrize("values", [[], [1.0], [0.5**t for t in range(9)]])
def test_short_sequences_say_so(values: list[float]) -> None:
    assert "too few steps" in fitted_rate(values).sentence("The loss")


def test_gaps_are_left_out() -> None:
    values = [0.5**t for t in range(40)]
    values[25], values[31], values[33] = math.nan, 0.0, math.inf
    found = fitted_rate(values)
    assert found.kind is Kind.LINEAR
    assert found.factor == pytest.approx(0.5)
