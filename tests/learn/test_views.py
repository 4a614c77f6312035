"""Problems that show others through themselves: one account, one memory, θ in the right units."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.learn.sample import Sample
from bilevel.learn.scaling import ScaledProblem
from contracts.problems import half, images, scaled

WEIGHT = "regulariser.log_weight"


def test_what_is_learned_in_other_units_is_the_energy() -> None:
    fit = bl.learn(scaled(images()), bl.algorithms.LBFGS(), budget=bl.Budget(steps=20))
    plain = bl.learn(images(), bl.algorithms.LBFGS(), budget=bl.Budget(steps=20))
    assert float(fit.theta[WEIGHT]) == pytest.approx(float(plain.theta[WEIGHT]), abs=0.05)
    assert float(fit.energy.regulariser.log_weight.detach()) == float(fit.theta[WEIGHT])  # type: ignore[union-attr]


def test_other_samples_or_scales_are_other_problems() -> None:
    algorithm, budget = bl.algorithms.LBFGS(), bl.Budget(steps=1)
    fit = bl.learn(half(images()), algorithm, budget=budget)
    with pytest.raises(bl.InputError, match="samples drawn"):
        bl.learn(Sample(images(), torch.tensor([1, 3])), algorithm, budget=budget, resume=fit)
    fit = bl.learn(scaled(images()), algorithm, budget=budget)
    with pytest.raises(bl.InputError, match=r"scales\.regulariser\.log_weight = 2\.0"):
        other = ScaledProblem(images(), dict.fromkeys(images().theta, 4.0))
        bl.learn(other, algorithm, budget=budget, resume=fit)


def test_single_loops_need_directions() -> None:
    with pytest.raises(bl.InputError, match="directions of single samples"):
        bl.learn(half(images()), bl.algorithms.SABA(), budget=bl.Budget(steps=1))
