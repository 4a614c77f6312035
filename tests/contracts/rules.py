"""What every rule for a weight must do; inherit ``RuleContract`` and name a rule in ``RULES``.

The closed forms are those of linear problems, by dense linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from bilevel.ground.errors import InputError
from bilevel.select import Outcome, Path, Point, rules, select
from bilevel.select.degrees import Degrees
from bilevel.select.level_rule import LevelRule
from bilevel.select.rule import Rule
from bilevel.solve.solvers import NewtonCG
from contracts import unusual
from contracts.dense import SIGMA, Dense, N, Problem, problem
from contracts.rows import rows

EXACT = Degrees("exact")
Criterion = Callable[[Dense, float, np.ndarray], float]


def excess(d: Dense, w: float, y: np.ndarray) -> float:
    return float(np.sum(d.residual(w, y) ** 2) / (SIGMA**2 * d.m) - 1)


def corrected(d: Dense, w: float, y: np.ndarray) -> float:
    return excess(d, w, y) + d.df(w) / d.m


def gaussianity(d: Dense, w: float, y: np.ndarray) -> float:
    return 0.5 * excess(d, w, y) ** 2


def risk(d: Dense, w: float, y: np.ndarray) -> float:
    return float((np.sum(d.residual(w, y) ** 2) + 2 * SIGMA**2 * d.df(w)) / d.m - SIGMA**2)


def gsure(inverse: np.ndarray, d: Dense, w: float, y: np.ndarray) -> float:
    projected = inverse @ d.a
    away = projected @ d.x(w, y) - inverse @ y
    fitted = np.trace(inverse.T @ projected @ d.response(w))
    noise = np.trace(inverse @ inverse.T)
    return float((away @ away + SIGMA**2 * (2 * fitted - noise)) / N)


def truncated(d: Dense, w: float, y: np.ndarray) -> float:
    return gsure(d.truncated(0.3), d, w, y)


def ridged(d: Dense, w: float, y: np.ndarray) -> float:
    return gsure(d.ridged(0.3), d, w, y)


def gcv(d: Dense, w: float, y: np.ndarray) -> float:
    return float(d.m * np.sum(d.residual(w, y) ** 2) / (d.m - d.df(w)) ** 2)


def robust(d: Dense, w: float, y: np.ndarray) -> float:
    p = d.a @ d.response(w)
    return (0.3 + 0.7 * float(np.trace(p @ p)) / d.m) * gcv(d, w, y)


def curvature(d: Dense, w: float, y: np.ndarray) -> float:
    """From first and second derivatives of both logarithms, as in any textbook."""
    x, (first, second) = d.x(w, y), d.slopes(w, y)

    def log_of(v: np.ndarray, v1: np.ndarray, v2: np.ndarray) -> tuple[float, float]:
        """Derivatives of ln ‖v‖²."""
        q, q1, q2 = v @ v, 2 * v @ v1, 2 * (v1 @ v1 + v @ v2)
        return q1 / q, q2 / q - (q1 / q) ** 2

    p1, p2 = (0.5 * z for z in log_of(d.residual(w, y), d.a @ first, d.a @ second))
    q1, q2 = log_of(d.b @ x, d.b @ first, d.b @ second)
    return -(p1 * q2 - p2 * q1) / (p1**2 + q1**2) ** 1.5


def restlessness(d: Dense, w: float, y: np.ndarray) -> float:
    return float(np.sqrt(np.mean(d.slopes(w, y)[0] ** 2)))


def autocorrelation(d: Dense, w: float, y: np.ndarray) -> float:
    r = d.residual(w, y).reshape(5, 6)
    lags = [np.sum(r * np.roll(r, (i, j), (0, 1))) for i in range(5) for j in range(6)]
    return float(np.sum(np.square(lags)) / np.sum(r**2) ** 2)


@dataclass(frozen=True)
class Row:
    """A rule, its closed form, and the power of the scale of the data that it is measured in."""

    rule: Rule
    form: Criterion
    power: int


RULES: dict[str, Row] = {
    "discrepancy": Row(rules.Discrepancy(SIGMA), excess, 0),
    "corrected": Row(rules.Discrepancy(SIGMA, corrected=True, degrees=EXACT), corrected, 0),
    "gaussianity": Row(rules.Gaussianity(SIGMA), gaussianity, 0),
    "risk": Row(rules.PredictedRisk(SIGMA, EXACT), risk, 2),
    "gcv": Row(rules.GCV(degrees=EXACT), gcv, 2),
    "robust gcv": Row(rules.GCV(0.3, EXACT), robust, 2),
    "l-curve": Row(rules.LCurve(), curvature, 0),
    "quasi-optimality": Row(rules.QuasiOptimality(), restlessness, 1),
}
PROBLEMS = [
    ("denoise", "identity"),
    ("denoise", "differences"),
    ("blur", "differences"),
    ("matrix", "differences"),
    ("matrix", "identity"),
    ("mask", "differences"),
    ("fourier", "identity"),
    ("learnable", "differences"),
    ("complex", "identity"),
]
WEIGHTS = (0.03, 0.4, 3.0)


def path_of(p: Problem, rule: Rule, scale: float = 1.0) -> Path:
    energy, accuracy = rule.prepare(p.energy, p.y), 1e-11 * scale
    return Path(energy, p.y, accuracy=accuracy, rtol=1e-12, solver=NewtonCG())


def point_at(p: Problem, rule: Rule, *weights: float, scale: float = 1.0) -> Point:
    return path_of(p, rule, scale).at(torch.tensor(weights, dtype=torch.float64))


def compare(p: Problem, rule: Rule, criterion: Criterion) -> None:
    found = rule.value(point_at(p, rule, *WEIGHTS))
    known = [criterion(p.dense, w, p.row(k)) for k, w in enumerate(WEIGHTS)]
    assert found.tolist() == pytest.approx(known, rel=1e-6, abs=1e-9)


class RuleContract:
    names: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "forward" in metafunc.fixturenames:
            cases = [(name, *which) for name in self.names for which in PROBLEMS]
            metafunc.parametrize(("name", "forward", "inner"), cases)
        elif "situation" in metafunc.fixturenames:
            product = rows(self.names, (*unusual.SMOOTH, *unusual.ROUGH))
            metafunc.parametrize(("name", "situation"), product)
        else:
            metafunc.parametrize("name", self.names)

    def test_values_are_those_of_the_closed_form(self, name: str, forward: str, inner: str) -> None:
        compare(problem(forward, inner), RULES[name].rule, RULES[name].form)

    def test_a_batch_gives_what_its_rows_give(self, name: str) -> None:
        p, rule = problem("blur", "differences"), RULES[name].rule
        together = rule.value(point_at(p, rule, *WEIGHTS))
        for k, weight in enumerate(WEIGHTS):
            one = replace(p, y=p.y[k : k + 1], truth=p.truth[k : k + 1])
            alone = rule.value(point_at(one, rule, weight))
            assert float(alone) == pytest.approx(float(together[k]), rel=1e-8, abs=1e-10)

    def test_scale_of_the_data(self, name: str) -> None:
        """Where noise and data are s times as large, the criterion is s to a power known."""
        row, p = RULES[name], problem("blur", "differences")
        unit = row.rule.value(point_at(p, row.rule, *WEIGHTS))
        for scale in (1e-3, 255.0):
            rule = row.rule
            if isinstance(rule, LevelRule):
                rule = replace(rule, sigma=scale * SIGMA)
            larger = replace(p, y=scale * p.y)
            found = rule.value(point_at(larger, rule, *WEIGHTS, scale=scale))
            expected = scale**row.power * unit
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9 * scale**row.power)

    def test_applies_or_says_why_not(self, name: str, situation: str) -> None:
        """In situations that others leave out, an answer for every row, or one clear error."""
        case = unusual.make(situation)
        try:
            choice = select(case.energy, case.y, RULES[name].rule, width=0.3)
        except InputError:
            return
        assert len(choice.weight) == len(case.y)
        assert bool((choice.weight > 0).all())
        assert all(isinstance(outcome, Outcome) for outcome in choice.outcome)
