"""Minibatches of implicit gradients."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Accuracy, Status
from bilevel.learn.algorithms import ISGD, MAID
from contracts.quadratics import Quadratic

NAME = "regulariser.log_weight"


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


def test_what_the_projection_undoes_shortens_no_step() -> None:
    """A mean of filters changes the loss most, and is not theirs to have."""
    whole = problem(0.1)
    experts = bl.regularisers.FieldsOfExperts(weight=0.05, learn=("filters",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts).double()
    few = bl.BilevelProblem(energy, bl.losses.SquaredError(), whole.samples)
    start, name = few.theta, "regulariser.filters"
    slope = few.value_and_grad(start, tol=1e-6).grad[name]
    free = slope - slope.mean((2, 3), keepdim=True)
    assert float(slope.norm()) > 2 * float(free.norm())
    for precondition in ("none", "adam"):
        algorithm = ISGD(
            batch_size=len(few),
            first_change=0.01,
            accuracy=Accuracy(first=1e-6),
            precondition=precondition,
        )
        move = bl.learn(few, algorithm, budget=bl.Budget(steps=1)).theta[name] - start[name]
        unit = free / free.abs().max() if precondition == "none" else free.sign()
        expected = -0.01 * (unit - unit.mean((2, 3), keepdim=True))
        torch.testing.assert_close(move, expected, rtol=1e-3, atol=1e-6)


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
