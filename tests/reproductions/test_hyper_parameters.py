"""Learned hyper-parameters: the closed form, features of noise, and wrong labels."""

from __future__ import annotations

import doctest
import importlib
import math
import sys
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator

sys.path.insert(0, str(Path(__file__).parents[2] / "reproductions" / "bengio-2000"))

from hyper_parameters import cleaning, feature_weights
from hyper_parameters.digits import PIXELS, split, with_noise
from hyper_parameters.figures import draw_weights
from hyper_parameters.ridge import Ridge, diabetes


def small_ridge(seed: int) -> Ridge:
    random = generator(seed, "ridge")
    table = torch.randn(40, 5, generator=random, dtype=torch.float64)
    answers = table @ torch.ones(5, dtype=torch.float64)
    answers = answers + 2 * torch.randn(40, generator=random, dtype=torch.float64)
    return Ridge(table[:15], answers[:15], table[15:], answers[15:])


def test_closed_form_of_ridge_is_the_solution_of_the_normal_equations() -> None:
    data = small_ridge(0)
    hessian = data.a.T @ data.a / 15 + math.exp(-1.0) * torch.eye(5, dtype=torch.float64)
    assert torch.allclose(data.solution(-1.0), torch.linalg.solve(hessian, data.a.T @ data.b / 15))
    quotient = (data.loss(-1 + 1e-5) - data.loss(-1 - 1e-5)) / 2e-5
    assert data.slope(-1.0) == pytest.approx(quotient, rel=1e-6)


@pytest.mark.parametrize("w", [-2.0, 0.5])
def test_hypergradient_of_ridge_is_the_slope(w: float) -> None:
    data = diabetes()
    theta = {"log_weight": torch.tensor(w, dtype=torch.float64)}
    found = data.problem().value_and_grad(theta, tol=1e-8)
    assert found.value == pytest.approx(data.loss(w), rel=1e-7)
    assert float(found.grad["log_weight"]) == pytest.approx(data.slope(w), abs=1e-6)


@pytest.mark.parametrize(
    "algorithm",
    [
        bl.algorithms.MAID(accelerated=True, tol=1e-8, accuracy=bl.Accuracy(floor=1e-10)),
        bl.algorithms.LBFGS(accuracy=bl.Accuracy(1e-8, 1e-12), tol=1e-9),
    ],
    ids=["accelerated MAID", "L-BFGS"],
)
def test_learned_weight_is_the_best_one(
    algorithm: bl.algorithms.MAID | bl.algorithms.LBFGS,
) -> None:
    data = diabetes()
    best = data.best()
    grid = [data.loss(w) for w in torch.linspace(-6, 3, 91).tolist()]
    assert data.loss(best) <= min(grid)
    fit = bl.learn(data.problem(), algorithm, budget=bl.Budget(steps=50))
    assert float(fit.theta["log_weight"]) == pytest.approx(best, abs=1e-6)
    assert data.loss(float(fit.theta["log_weight"])) == pytest.approx(data.loss(best), abs=1e-10)


def test_a_weight_for_each_feature_beats_the_best_in_common(tmp_path: Path) -> None:
    parts = with_noise(split(200, 800), 36)
    start = torch.full((100,), -4.0, dtype=torch.float64)
    problem = feature_weights.problem_of(parts, start)
    algorithm = bl.algorithms.MAID(accelerated=True)
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=8))
    x = problem.x(fit.theta, tol=1e-3)
    single = feature_weights.search(parts, points=7, tol=1e-2)
    assert parts.test.loss(x) < 0.9 * parts.test.loss(single.x)
    weights = fit.theta["log_weights"]
    assert weights[PIXELS:].median() > weights[:PIXELS].median()
    path = draw_weights(weights, parts.training.features[:, :PIXELS].std(0), tmp_path / "w.png")
    assert path.stat().st_size > 1000


def test_declared_bounds_hold_the_hessian() -> None:
    parts = with_noise(split(100, 100), 2)
    for problem in (
        feature_weights.problem_of(parts, torch.zeros(66, dtype=torch.float64)),
        cleaning.problem_of(parts),
    ):
        iterates = problem.iterates(problem.theta)
        bounds = problem.bounds
        random = torch.randn(iterates.x.shape, generator=generator(0, "x"), dtype=torch.float64)
        hessian = problem.lower_at(problem.theta, torch.tensor([0])).hessian(0.1 * random)
        v, value = random, 0.0
        for _ in range(30):
            v = hessian(v / v.norm())
            value = float(v.norm())
        assert float(bounds.mu) < value <= float(bounds.lipschitz) * (1 + 1e-9)


def test_corruption_moves_labels_with_the_probability_asked_for() -> None:
    parts = split(900, 150)
    dirty = cleaning.corrupt(parts, 0.5)
    changed = dirty.parts.training.labels != parts.training.labels
    assert torch.equal(changed, dirty.wrong)
    assert 0.45 < float(changed.double().mean()) < 0.55
    assert torch.equal(dirty.parts.validation.labels, parts.validation.labels)
    assert len(dirty.clean) == int((~changed).sum())


def test_cleaning_comes_near_to_right_labels() -> None:
    dirty = cleaning.corrupt(split(900, 250), 0.5)
    parts = dirty.parts
    right = parts.test.accuracy(cleaning.trained(dirty.clean, parts, tol=1e-3))
    naive = parts.test.accuracy(cleaning.trained(parts.training, parts, tol=1e-3))
    problem = cleaning.problem_of(parts)
    algorithm = bl.algorithms.SABA(batch_size=30, first_change=3.0)
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=20))
    found = parts.test.accuracy(problem.x(fit.theta, tol=1e-3))
    assert found >= right - 0.03 and found > naive + 0.05
    weights = fit.theta["logits"].sigmoid()
    assert weights[dirty.wrong].mean() < 0.2
    assert weights[~dirty.wrong].mean() > 0.6


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="for the test"):
        split(1700, 97)
    with pytest.raises(InputError, match="probability"):
        cleaning.corrupt(split(10, 10), 1.5)


@pytest.mark.parametrize("name", ["digits", "ridge"])
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"hyper_parameters.{name}"))
    assert found.attempted > 0 and found.failed == 0
