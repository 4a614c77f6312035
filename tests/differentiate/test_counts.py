"""What is proved of hypergradients holds for the fidelity of counts, whose Hessian varies."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.ground.randomness import generator
from contracts.zoo import OPERATORS, REGULARISERS, SHAPE, log_uniform


@pytest.mark.parametrize("regulariser", ["tv charbonnier", "tv map huber", "foe log-cosh"])
@pytest.mark.parametrize("operator", ["identity", "reflecting", "mask"])
def test_bounds_of_value_and_gradient_hold_at_loose_solutions(
    operator: str, regulariser: str
) -> None:
    rng = generator(0, "counts", operator, regulariser)
    a, r = OPERATORS[operator](rng), REGULARISERS[regulariser](rng)
    background = log_uniform(rng, -1.0, 0.0)
    fidelity = bl.fidelities.KullbackLeibler(a, background, learn=("weight",))
    energy = bl.Variational(fidelity, r + bl.regularisers.Tikhonov(0.3, learn=())).double()
    truth = torch.rand(1, *SHAPE, generator=rng).double()
    noise = bl.data.PoissonNoise(30.0, background)
    pairs = bl.data.simulate(truth, a.double(), noise)
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    exact = problem.value_and_grad(problem.theta, tol=1e-11)
    finite = 0
    for tol in (3e-2, 3e-3, 3e-4):
        fresh = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        found = fresh.value_and_grad(fresh.theta, tol=tol)
        error = algebra.norm(algebra.add(found.grad, exact.grad, -1.0))
        assert error <= found.error * (1 + 1e-9)
        assert abs(found.corrected - exact.value) <= found.interval * (1 + 1e-9) + 1e-12
        finite += found.error < float("inf")
    assert finite == 3


def test_bounds_hold_with_shares_of_noise_that_are_learned() -> None:
    rng = generator(1, "camera")
    a, r = OPERATORS["composition"](rng), REGULARISERS["tv charbonnier"](rng)
    fidelity = bl.fidelities.GaussianPoisson(a, 100.0, 30.0, 0.2, learn=("gaussian", "poisson"))
    energy = bl.Variational(fidelity, r + bl.regularisers.Tikhonov(3.0, learn=())).double()
    truth = 0.2 * torch.rand(1, *SHAPE, generator=rng).double()
    pairs = bl.data.simulate(truth, a.double(), bl.data.PoissonGaussianNoise(1 / 30, 0.1))
    assert float(pairs.y.min()) < 0
    exact = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    truth_of = exact.value_and_grad(exact.theta, tol=1e-11)
    assert bl.check_hypergradient(exact).passed
    for tol in (1e-2, 1e-3, 1e-4):
        fresh = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        found = fresh.value_and_grad(fresh.theta, tol=tol)
        error = algebra.norm(algebra.add(found.grad, truth_of.grad, -1.0))
        assert error <= found.error * (1 + 1e-9) < float("inf")
        assert abs(found.corrected - truth_of.value) <= found.interval * (1 + 1e-9) + 1e-12
