"""Budgets: what they end, and what is none."""

from __future__ import annotations

import math

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Status


def problem() -> bl.BilevelProblem:
    images, noise = bl.data.embedded_images(size=24), bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise)
    tv = bl.regularisers.TotalVariation(0.05, 0.02, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def test_budget_ends_a_fit_that_can_be_used() -> None:
    for budget in (bl.Budget(gradient_evaluations=50), bl.Budget(seconds=1e-3)):
        p = problem()
        fit = bl.learn(p, budget=budget)
        assert fit.status is Status.BUDGET
        fit.reconstruct(p.samples.y[:1]).require()


def test_no_steps_learn_nothing() -> None:
    p = problem()
    fit = bl.learn(p, budget=bl.Budget(steps=0))
    assert fit.status is Status.GIVEN
    assert not fit.history and p.cost.gradient_evaluations == 0
    assert fit.theta.keys() == p.theta.keys()
    assert all(torch.equal(fit.theta[name], value) for name, value in p.theta.items())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "needs a finite limit"),
        ({"steps": -1}, "steps of a budget must be a whole number, but got -1"),
        ({"steps": 1.5}, "steps of a budget must be a whole number, but got 1.5"),
        ({"steps": math.nan}, "steps of a budget must be a whole number, but got nan"),
        ({"seconds": 0}, "seconds of a budget must be positive, but got 0"),
        ({"seconds": math.nan, "steps": 1}, "seconds of a budget must be positive, but got nan"),
        ({"gradient_evaluations": -3}, "gradient_evaluations of a budget must be positive"),
    ],
)
def test_limits_that_are_none(limits: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bl.Budget(**limits)
