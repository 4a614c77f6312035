"""Minibatches of implicit gradients."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Status
from bilevel.learn.algorithms import ISGD, MAID
from contracts.quadratics import Quadratic

NAME = "regulariser.log_weight"
LEARN = sys.modules["bilevel.learn.learn"]


def problem(weight: float) -> bl.BilevelProblem:
    images = bl.data.embedded_images(size=16).double()[:6]
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1), seed=0)
    tv = bl.regularisers.TotalVariation(weight, 0.05, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


@pytest.mark.parametrize("precondition", ["none", "adam"])
def test_lands_near_the_best_weight_and_accuracies_grow(precondition: str) -> None:
    best = bl.learn(problem(0.1), MAID(accelerated=True), budget=bl.Budget(steps=40)).theta[NAME]
    algorithm = ISGD(batch_size=2, precondition=precondition)
    fit = bl.learn(problem(0.3), algorithm, budget=bl.Budget(steps=60))
    assert fit.status is Status.BUDGET
    assert abs(float(fit.theta[NAME] - best)) <= 0.3 < abs(math.log(0.3) - float(best))
    asked = [r.accuracy for r in fit.history]
    assert asked[-1] == pytest.approx(asked[0] / math.sqrt(61))


@pytest.mark.parametrize(("steps", "looks"), [(100, 0), (20, 1)])
def test_many_batches_tell_by_themselves_that_the_loss_fell(
    steps: int, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at all samples to the end costs more than many steps."""
    seen: list[bool] = []
    monkeypatch.setattr(LEARN, "grown", lambda *_: seen.append(True))
    algorithm = ISGD(batch_size=2, precondition="adam")
    bl.learn(problem(0.01), algorithm, budget=bl.Budget(steps=steps))
    assert len(seen) == looks
    bl.learn(problem(0.1), replace(algorithm, first_change=1e-6), budget=bl.Budget(steps=steps))
    assert len(seen) == looks + 1


@pytest.mark.parametrize("precondition", ["none", "adam"])
def test_steps_in_two_parts_equal_those_at_once(precondition: str, tmp_path: Path) -> None:
    algorithm = ISGD(batch_size=4, precondition=precondition)
    whole = bl.learn(problem(0.3), algorithm, budget=bl.Budget(steps=6))
    half = bl.load(bl.learn(problem(0.3), algorithm, budget=bl.Budget(steps=3)).save(tmp_path))
    again = bl.learn(problem(0.3), algorithm, budget=bl.Budget(steps=3), resume=half)
    assert torch.equal(again.theta[NAME], whole.theta[NAME])
    assert [r.value for r in again.history] == [r.value for r in whole.history]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ISGD(batch_size=0), "batch_size must be at least 1"),
        (lambda: ISGD(step_size=0.0), "step_size must be a positive"),
        (lambda: ISGD(step_power=-1.0), "step_power must be"),
        (lambda: ISGD(precondition="adm"), "did you mean 'adam'"),
        (lambda: ISGD(batch_size=7).init(problem(0.1), problem(0.1).theta), "batch_size must lie"),
        (lambda: bl.learn(Quadratic.random(0).problem(), ISGD(), budget=bl.Budget(steps=1)), "own"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
