"""A tiny fit, made once."""

from __future__ import annotations

import pytest

import bilevel as bl
from bilevel.learn import Fit


@pytest.fixture(scope="session")
def tiny_fit() -> Fit:
    """Total variation with a Tikhonov term, learned on two phantoms of 16x16."""
    images = bl.data.shepp_logan(16).repeat(2, 1, 1, 1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    regulariser = bl.regularisers.TotalVariation(0.02) + bl.regularisers.Tikhonov(1e-3, learn=())
    energy = bl.Variational(bl.fidelities.SquaredL2(), regulariser)
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    return bl.learn(problem, budget=bl.Budget(steps=2))
