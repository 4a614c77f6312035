"""Every rule against its closed form by dense linear algebra."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

from bilevel.risk import spectrum
from bilevel.select import Point, rules
from bilevel.select.rule import Rule
from bilevel.select.search import find_minimum, find_root
from contracts.dense import ROWS, SIGMA, Dense, Problem, problem
from contracts.rules import (
    EXACT,
    RULES,
    WEIGHTS,
    RuleContract,
    autocorrelation,
    compare,
    path_of,
    point_at,
    ridged,
    risk,
    truncated,
)

GSURE = rules.GSURE(SIGMA, EXACT, truncation=0.3)


class TestRules(RuleContract):
    names = tuple(RULES)


@dataclass(frozen=True)
class OffByMuch(rules.PredictedRisk):
    """Forgets the noise, looks at the first row alone, and adds a number of its own."""

    def value(self, point: Point) -> Tensor:
        return 0 * super().value(point) + super().value(point)[0] + 1.0


def test_the_contract_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    contract, wrong = RuleContract(), OffByMuch(SIGMA, EXACT)
    monkeypatch.setitem(RULES, "wrong", replace(RULES["risk"], rule=wrong))
    for test in (contract.test_a_batch_gives_what_its_rows_give, contract.test_scale_of_the_data):
        with pytest.raises(AssertionError):
            test("wrong")
    with pytest.raises(AssertionError):
        contract.test_values_are_those_of_the_closed_form("wrong", "blur", "differences")


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
    p, rule, criterion = problem(forward, "differences"), RULES[name].rule, RULES[name].form
    found, _ = search(p, rule, -5.0, 3.0, 1e-7)
    for k in range(ROWS):
        y = p.row(k)

        def f(t: float, y: np.ndarray = y) -> float:
            return criterion(p.dense, float(np.exp(t)), y)

        assert float(found[k]) == pytest.approx(brentq(f, -5.0, 3.0, xtol=1e-10), abs=1e-6)


INSIDE = ("gaussianity", "risk", "gcv", "robust gcv", "l-curve")
MINIMA = {
    **{name: (RULES[name].rule, RULES[name].form, "matrix", "differences") for name in INSIDE},
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
