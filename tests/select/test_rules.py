"""Every rule against its closed form by dense linear algebra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

from bilevel.risk import spectrum
from bilevel.select import Path, Point, rules
from bilevel.select.degrees import Degrees
from bilevel.select.rule import Rule
from bilevel.select.search import find_minimum, find_root
from bilevel.solve.solvers import NewtonCG
from contracts.dense import ROWS, SIGMA, Dense, N, Problem, problem

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


RULES: dict[str, tuple[Rule, Criterion]] = {
    "discrepancy": (rules.Discrepancy(SIGMA), excess),
    "corrected": (rules.Discrepancy(SIGMA, corrected=True, degrees=EXACT), corrected),
    "gaussianity": (rules.Gaussianity(SIGMA), gaussianity),
    "risk": (rules.PredictedRisk(SIGMA, EXACT), risk),
    "gcv": (rules.GCV(degrees=EXACT), gcv),
    "robust gcv": (rules.GCV(0.3, EXACT), robust),
    "l-curve": (rules.LCurve(), curvature),
    "quasi-optimality": (rules.QuasiOptimality(), restlessness),
}
GSURE = rules.GSURE(SIGMA, EXACT, truncation=0.3)
PROBLEMS = [
    ("denoise", "identity"),
    ("denoise", "differences"),
    ("blur", "differences"),
    ("matrix", "differences"),
    ("matrix", "identity"),
    ("mask", "differences"),
    ("fourier", "identity"),
]


def path_of(p: Problem, rule: Rule) -> Path:
    return Path(rule.prepare(p.energy, p.y), p.y, accuracy=1e-11, rtol=1e-12, solver=NewtonCG())


def point_at(p: Problem, rule: Rule, *weights: float) -> Point:
    return path_of(p, rule).at(torch.tensor(weights, dtype=torch.float64))


WEIGHTS = (0.03, 0.4, 3.0)


def compare(p: Problem, rule: Rule, criterion: Criterion) -> None:
    found = rule.value(point_at(p, rule, *WEIGHTS))
    known = [criterion(p.dense, w, p.row(k)) for k, w in enumerate(WEIGHTS)]
    assert found.tolist() == pytest.approx(known, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("which", PROBLEMS, ids=" ".join)
def test_values_are_those_of_the_closed_form(which: tuple[str, str], name: str) -> None:
    compare(problem(*which), *RULES[name])


@pytest.mark.parametrize("inner", ["identity", "differences"])
def test_sure_is_the_predicted_risk_of_denoising(inner: str) -> None:
    compare(problem("denoise", inner), rules.SURE(SIGMA, EXACT), risk)


@pytest.mark.parametrize("forward", ["denoise", "blur", "mask", "fourier"])
def test_gsure_leaves_out_small_singular_values(forward: str) -> None:
    compare(problem(forward, "differences"), GSURE, truncated)


def test_gsure_of_a_matrix_has_a_ridge() -> None:
    compare(problem("matrix", "differences"), GSURE, ridged)


def test_the_truncation_of_gsure_matters() -> None:
    p = problem("blur", "differences")
    ranks = [np.linalg.matrix_rank(p.dense.truncated(t)) for t in (1e-6, 0.3)]
    assert ranks[0] > ranks[1] > 0


@pytest.mark.parametrize("forward", ["denoise", "blur", "mask"])
def test_whiteness_is_the_energy_of_the_autocorrelation(forward: str) -> None:
    p = problem(forward, "differences")
    found = rules.Whiteness().value(point_at(p, rules.Whiteness(), *WEIGHTS))
    for k, w in enumerate(WEIGHTS):
        assert float(found[k]) == pytest.approx(autocorrelation(p.dense, w, p.row(k)))


def test_white_noise_has_a_whiteness_of_two() -> None:
    noise = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    found = spectrum.whiteness(noise)
    assert bool(((found - 2).abs() < 0.15).all())


@pytest.mark.parametrize("forward", ["denoise", "blur", "matrix", "mask", "fourier"])
def test_hold_out_predicts_what_the_reconstruction_has_not_seen(forward: str) -> None:
    p = problem(forward, "identity")
    rule = rules.HoldOut(part=0.3, seed=2)
    prepared = rule.prepare(p.energy, p.y).fidelity.operator
    kept = prepared.outer.mask.flatten().numpy() > 0
    part = Dense(p.dense.a * kept[:, None], p.dense.b)
    held = ~kept & p.dense.seen
    assert 0 < held.sum() < p.dense.m

    def error(d: Dense, w: float, y: np.ndarray) -> float:
        return float(np.mean((d.a @ part.x(w, y) - y)[held] ** 2))

    compare(p, rule, error)


def test_the_oracle_knows_the_error() -> None:
    p = problem("blur", "differences")
    rule = rules.Oracle(p.truth)
    truth = p.truth.flatten(1).numpy()
    found = rule.value(point_at(p, rule, *WEIGHTS))
    for k, w in enumerate(WEIGHTS):
        known = np.mean((p.dense.x(w, p.row(k)) - truth[k]) ** 2)
        assert float(found[k]) == pytest.approx(known, rel=1e-6)


def search(p: Problem, rule: Rule, low: float, high: float, width: float) -> tuple[Tensor, Tensor]:
    path = path_of(p, rule)
    ends = torch.full((ROWS,), low).double(), torch.full((ROWS,), high).double()

    def criterion(log: Tensor, index: Tensor) -> Tensor:
        return rule.value(path.at(log.exp(), index))

    find = find_root if rule.goal.value == "root" else find_minimum
    found = find(criterion, *ends, width=width)
    assert bool(found.inside.all())
    return found.at, found.value


@pytest.mark.parametrize("name", ["discrepancy", "corrected"])
@pytest.mark.parametrize("forward", ["denoise", "blur"])
def test_roots_are_those_of_the_closed_form(forward: str, name: str) -> None:
    p, (rule, criterion) = problem(forward, "differences"), RULES[name]
    found, _ = search(p, rule, -5.0, 3.0, 1e-7)
    for k in range(ROWS):
        y = p.row(k)

        def f(t: float, y: np.ndarray = y) -> float:
            return criterion(p.dense, float(np.exp(t)), y)

        assert float(found[k]) == pytest.approx(brentq(f, -5.0, 3.0, xtol=1e-10), abs=1e-6)


INSIDE = ("gaussianity", "risk", "gcv", "robust gcv", "l-curve")
MINIMA = {
    **{name: (*RULES[name], "matrix", "differences") for name in INSIDE},
    "gsure": (GSURE, ridged, "matrix", "differences"),
    "whiteness": (rules.Whiteness(patch=None), autocorrelation, "blur", "identity"),
}


@pytest.mark.parametrize("name", MINIMA)
def test_minima_are_those_of_the_closed_form(name: str) -> None:
    rule, criterion, forward, inner = MINIMA[name]
    p, low, high = problem(forward, inner), -5.5, 2.5
    at, value = search(p, rule, low, high, 1e-6)
    for k in range(ROWS):
        y = p.row(k)

        def f(t: float, y: np.ndarray = y) -> float:
            return criterion(p.dense, float(np.exp(t)), y)

        grid = np.linspace(low, high, 50)
        best = grid[np.argmin([f(t) for t in grid])]
        assert low < best < high
        known = minimize_scalar(f, (best - 0.3, best, best + 0.3), tol=1e-10)
        assert float(at[k]) == pytest.approx(known.x, abs=3e-6)
        assert float(value[k]) == pytest.approx(known.fun, rel=1e-6, abs=1e-7)
