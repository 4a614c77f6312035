"""Adam on batches, on a schedule of steps, as accurate as the batch deserves."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Accuracy, Status
from bilevel.learn.algorithms import MAID, Stochastic
from contracts.quadratics import Quadratic
from learn.test_isgd import NAME, problem

MODULE = sys.modules[Stochastic.__module__]


def learned(algorithm: Stochastic, steps: int = 10**6, **options: object) -> bl.Fit:
    budget = bl.Budget(steps=steps)
    return bl.learn(problem(0.3), algorithm, budget=budget, **options)  # type: ignore[arg-type]


def test_lands_near_the_best_weight_and_ends_with_the_schedule() -> None:
    best = bl.learn(problem(0.1), MAID(accelerated=True), budget=bl.Budget(steps=40)).theta[NAME]
    fit = learned(Stochastic(60, batch_size=2, rate=0.1))
    assert fit.status is Status.SCHEDULED
    assert len(fit.history) == 61
    assert abs(float(fit.theta[NAME] - best)) <= 0.1 < abs(math.log(0.3) - float(best))


def test_rates_rise_from_nothing_and_fall_along_a_cosine() -> None:
    method = Stochastic(100, rate=2.0, last=0.1, warm_up=0.1)
    rates = [method.rate_at(t) for t in range(1, 101)]
    assert rates[0] == pytest.approx(0.2, rel=1e-2)
    assert rates.index(max(rates)) == 9
    assert rates[49] == pytest.approx(1.1)
    assert rates[-1] == pytest.approx(0.2)
    assert Stochastic(100, rate=2.0, warm_up=0.0).rate_at(0) == 2.0


def test_the_last_step_ends_at_the_mean_of_the_last_theta() -> None:
    seen = learned(Stochastic(10, batch_size=2, rate=0.1, average=0.3, last=1.0))
    path = [line.scalars[NAME] for line in seen.history]
    plain = learned(Stochastic(10, batch_size=2, rate=0.1, average=0.0, last=1.0))
    assert path[:10] == [line.scalars[NAME] for line in plain.history][:10]
    last = plain.history[10].scalars[NAME]
    assert path[10] == pytest.approx((path[8] + path[9] + last) / 3)


@pytest.mark.parametrize("halves", [3, 5])
def test_steps_in_two_parts_equal_those_at_once(halves: int, tmp_path: Path) -> None:
    method = Stochastic(7, batch_size=4, average=0.5)
    whole = learned(method)
    half = bl.load(learned(method, halves).save(tmp_path))
    assert half.status is Status.BUDGET
    again = bl.learn(problem(0.3), method, budget=bl.Budget(steps=10), resume=half)
    assert again.status is Status.SCHEDULED
    assert torch.equal(again.theta[NAME], whole.theta[NAME])
    assert [r.value for r in again.history] == [r.value for r in whole.history]


@pytest.mark.parametrize(("first", "factor"), [(0.03, 0.5), (1e-6, 1.5)])
def test_the_accuracy_follows_the_noise(
    first: float, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coarse solves are refined, fine ones made coarser, every so many steps."""
    monkeypatch.setattr(MODULE, "EVERY", 2)
    method = Stochastic(20, batch_size=2, bias=1e-2, accuracy=Accuracy(first=first))
    asked = [line.accuracy for line in learned(method, 6).history]
    assert asked[0] == asked[1] == first
    assert asked[3] == pytest.approx(factor * first)
    assert asked[5] == pytest.approx(factor**2 * first)


def test_a_part_of_few_samples_is_all_of_them() -> None:
    fit = learned(Stochastic(2, batch_size=100))
    assert all(line.whole for line in fit.history)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Stochastic(0), "steps must be at least 1"),
        (lambda: Stochastic(batch_size=0), "batch_size must be at least 1"),
        (lambda: Stochastic(rate=0.0), "rate must be a positive"),
        (lambda: Stochastic(bias=0.0), "bias must be a positive"),
        (lambda: Stochastic(warm_up=1.5), "warm_up must lie in"),
        (lambda: Stochastic(memory=1.0), "memory must lie in"),
        (lambda: bl.learn(Quadratic.random(0).problem(), Stochastic(), budget=bl.Budget(steps=1)),
         "own"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
