"""The algorithm chosen unless another is asked for."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn.algorithms import LBFGS, MAID, Automatic, automatic

TV = bl.regularisers.TotalVariation(0.05, 0.02)
EXACT = bl.regularisers.ExactTotalVariation(0.05)


def problem(regulariser: bl.regularisers.Regulariser) -> bl.BilevelProblem:
    images = bl.data.embedded_images(size=16)[:2]
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), regulariser)
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


@pytest.mark.parametrize(("regulariser", "kind"), [(TV, LBFGS), (EXACT, MAID)])
def test_the_choice_fits_and_is_told(regulariser, kind) -> None:
    p = problem(regulariser)
    choice = automatic(p)
    assert isinstance(choice.algorithm, kind)
    fit = bl.learn(p, budget=bl.Budget(steps=3))
    assert fit.algorithm == choice.reason
    assert fit.history[-1].value < fit.history[0].value


def test_it_is_what_it_chose() -> None:
    first = bl.learn(problem(TV), budget=bl.Budget(steps=4))
    second = bl.learn(problem(TV), LBFGS(), budget=bl.Budget(steps=4))
    assert all(torch.equal(first.theta[name], second.theta[name]) for name in second.theta)


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="tol"):
        Automatic(tol=-1.0)
