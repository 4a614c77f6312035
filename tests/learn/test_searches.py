"""Searches: every point is tried, the best is kept, and searches are continued bit for bit."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Algorithm, Status
from bilevel.learn.algorithms import DFOLS, Grid, OptunaSearch, RandomSearch
from bilevel.learn.checkpoint import read_state, write_state
from bilevel.model import Bounds
from contracts.quadratics import DOUBLE, Quadratic

BOX = {"a": (-2.0, 2.0), "b": (0.0, 3.0)}


def problem() -> bl.SharedProblem:
    """(a - 1)² + 2 (b - 2)² + 0.5, at a start where it is 9.5."""

    def lower(x: torch.Tensor, theta: bl.Theta, ids: torch.Tensor) -> torch.Tensor:
        return 0.5 * (x - torch.stack([theta["a"], theta["b"]])).square().sum()

    def upper(x: torch.Tensor, theta: bl.Theta, ids: torch.Tensor) -> torch.Tensor:
        return (x[0] - 1).square() + 2 * (x[1] - 2).square() + 0.5

    start = {"a": torch.tensor(0.0, dtype=DOUBLE), "b": torch.tensor(0.0, dtype=DOUBLE)}
    x0 = torch.zeros(2, dtype=DOUBLE)
    return bl.SharedProblem(
        bl.FiniteSum(1, lower), bl.FiniteSum(1, upper), start, x0, bounds=Bounds.of(1, 1)
    )


SEARCHES = {
    "grid": Grid(BOX, points=5),
    "random": RandomSearch(BOX, trials=25),
    "optuna": OptunaSearch(BOX, trials=25, startup=5),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_the_best_of_all_trials_is_kept(name: str) -> None:
    fit = bl.learn(problem(), SEARCHES[name], budget=bl.Budget(steps=100))
    assert fit.status is Status.EXHAUSTED
    state = fit.snapshot.state
    assert len(fit.history) == 26
    assert state.points.shape == (25, 2)
    a, b = state.points.T
    loss = (a - 1).square() + 2 * (b - 2).square() + 0.5
    assert torch.allclose(state.values, loss, atol=1e-2)
    best = int(state.values.argmin())
    assert [float(v) for v in fit.theta.values()] == state.points[best].tolist()
    assert fit.history[-1].value == float(state.values.min()) < fit.history[0].value
    low, high = torch.tensor(list(BOX.values()), dtype=DOUBLE).T
    assert bool(((low <= state.points) & (state.points <= high)).all())


def test_a_grid_holds_every_combination() -> None:
    fit = bl.learn(problem(), Grid(BOX, points=3), budget=bl.Budget(steps=100))
    found = {tuple(p) for p in fit.snapshot.state.points.tolist()}
    assert found == {(a, b) for a in (-2.0, 0.0, 2.0) for b in (0.0, 1.5, 3.0)}


def test_optuna_learns_from_its_trials() -> None:
    """Its later trials are better than its first, random ones."""
    search = OptunaSearch(BOX, trials=40, startup=10)
    values = bl.learn(problem(), search, budget=bl.Budget(steps=100)).snapshot.state.values
    assert float(values[-15:].median()) < 0.5 * float(values[:10].median())


def test_what_is_not_named_stays() -> None:
    fit = bl.learn(problem(), Grid({"b": (1.0, 3.0)}, points=3), budget=bl.Budget(steps=9))
    assert {k: float(v) for k, v in fit.theta.items()} == {"a": 0.0, "b": 2.0}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_in_two_parts_equal_those_at_once(name: str, tmp_path: Path) -> None:
    search = SEARCHES[name]
    whole = bl.learn(problem(), search, budget=bl.Budget(steps=12))
    half = bl.learn(problem(), search, budget=bl.Budget(steps=7))
    write_state(tmp_path, half.snapshot)
    again = replace(half, snapshot=read_state(tmp_path))
    rest = bl.learn(problem(), search, budget=bl.Budget(steps=5), resume=again)
    assert torch.equal(rest.snapshot.state.points, whole.snapshot.state.points)
    assert torch.equal(rest.snapshot.state.values, whole.snapshot.state.values)


def test_seeds_matter_and_repeat() -> None:
    def tried(search: Algorithm) -> torch.Tensor:
        return bl.learn(problem(), search, budget=bl.Budget(steps=7)).snapshot.state.points

    for kind in (RandomSearch, OptunaSearch):
        assert torch.equal(tried(kind(BOX, seed=1)), tried(kind(BOX, seed=1)))
        assert not torch.equal(tried(kind(BOX, seed=1)), tried(kind(BOX, seed=2)))


@pytest.mark.parametrize(("module", "make"), [("optuna", OptunaSearch), ("dfols", DFOLS)])
def test_a_missing_package_is_named_with_what_to_install(module, make, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'bilevel\[search\]'"):
        make(BOX) if make is OptunaSearch else make()


def start(box: dict[str, tuple[float, float]]) -> bl.Fit:
    return bl.learn(problem(), Grid(box), budget=bl.Budget(steps=1))


def many() -> bl.Fit:
    search = Grid({"w": (0.0, 1.0)})
    return bl.learn(Quadratic.random(0).problem(), search, budget=bl.Budget(steps=1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Grid, "needs a box"),
        (lambda: Grid({"a": (1.0, 1.0)}), "low < high"),
        (lambda: Grid({"a": (0.0, float("inf"))}), "low < high"),
        (lambda: Grid(BOX, points=1), "two points"),
        (lambda: Grid(BOX, accuracy=0.0), "accuracy"),
        (lambda: RandomSearch(BOX, trials=0), "trials must be at least 1"),
        (lambda: OptunaSearch(BOX, startup=0), "startup >= 1"),
        (lambda: start({"c": (0.0, 1.0)}), "no scalar parameter"),
        (many, "no scalar parameter"),
    ],
)
def test_bad_options_are_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
