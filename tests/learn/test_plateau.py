"""Where a gradient vanishes because nothing depends on θ, and not because θ is right."""

from __future__ import annotations

import pytest

import bilevel as bl
from bilevel.learn import Algorithm, Status
from bilevel.learn.algorithms import HOAG, LBFGS, MAID, ProjectedGradient


def problem(weight: float) -> bl.BilevelProblem:
    truth = bl.data.embedded_images(24)[:2].double()
    pairs = bl.data.simulate(truth, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    tv = bl.regularisers.TotalVariation(weight, 0.01)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


ALGORITHMS = {
    "automatic": None,
    "projected": ProjectedGradient(tol=1e-2),
    "l-bfgs": LBFGS(tol=1e-2),
    "maid": MAID(tol=1e-2),
    "hoag": HOAG(tol=1e-2),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_plateau_is_not_an_answer(name: str) -> None:
    algorithm: Algorithm | None = ALGORITHMS[name]
    fit = bl.learn(problem(5e-7), algorithm, budget=bl.Budget(steps=3))
    fallen = fit.history[0].value - fit.history[-1].value
    assert fit.status is Status.PLATEAU or fallen > 0.1 * fit.history[0].value, fit.status


def test_a_plateau_is_told_of_however_wide() -> None:
    fit = bl.learn(problem(1e-8), budget=bl.Budget(steps=3))
    assert fit.status is Status.PLATEAU


def test_a_minimum_is_no_plateau() -> None:
    before = problem(0.05)
    fit = bl.learn(before, ProjectedGradient(tol=2e-2), budget=bl.Budget(steps=30))
    assert fit.status in (Status.CONVERGED, Status.STATIONARY)
    again = bl.learn(before, ProjectedGradient(tol=2e-2), fit.theta, budget=bl.Budget(steps=5))
    assert again.status is fit.status
