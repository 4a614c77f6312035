"""Losses whose gradient has no Lipschitz constant: nothing is claimed, and all goes on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.ground.theta import learnable
from bilevel.learn import Status
from bilevel.learn.algorithms import BOME, F2SA, GaussNewton
from contracts.problems import images
from contracts.zoo import make


class Square(torch.nn.Module):
    """The squared error, of which nothing is known."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return (x - target).square().flatten(1).mean(1)


UNKNOWN, KNOWN = bl.losses.ModuleLoss(Square(), unit="grey value²"), bl.losses.SquaredError()


METHODS = {
    "implicit": bl.hypergradients.Implicit(),
    "neumann": bl.hypergradients.Neumann(400),
    "equilibrium": bl.hypergradients.EquilibriumPropagation(),
    "value function": bl.hypergradients.ValueFunction(),
    "unrolled": bl.hypergradients.Unrolled(100, bl.solvers.Nesterov()),
    "shine": bl.hypergradients.Shine(steps=60),
}


@pytest.mark.parametrize("name", METHODS)
def test_hypergradients_are_the_same_and_claim_nothing(name: str) -> None:
    """At the accuracy that they choose themselves."""
    case = make("identity", "tv charbonnier", 5, torch.float64)
    lower = case.energy.at(case.y)
    tol = bl.Tolerance(rms=1e-6)
    x = bl.minimise(lower, bl.solvers.LBFGS(), tol=tol, keep_state=True)
    found, known = (
        METHODS[name](lower, bl.Upper(loss, case.target), x) for loss in (UNKNOWN, KNOWN)
    )
    assert found.bound == math.inf
    assert bool((found.interval > 0).all())
    assert not bool(found.interval.isnan().any() | found.interval_estimate.isnan().any())
    off = algebra.norm(algebra.add(found.grad, known.grad, -1.0))
    assert off <= 1e-2 * algebra.norm(known.grad)


def test_at_an_exact_solution_the_constant_does_not_matter() -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0)).double()
    y = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    lower = energy.at(y)
    x = bl.minimise(lower, bl.solvers.NewtonCG(), tol=bl.Tolerance(rms=1e-9))
    found = bl.hypergradients.Implicit()(lower, bl.Upper(UNKNOWN, 0 * y), x)
    assert not bool(found.error.isnan().any())
    assert list(found.grad) == list(learnable(energy))


def problem(loss: bl.losses.Loss) -> bl.BilevelProblem:
    whole = images(order=(0, 1))
    return bl.BilevelProblem(whole.energy, loss, whole.samples)


@pytest.mark.parametrize(
    "algorithm",
    [None, bl.algorithms.MAID(), GaussNewton(), F2SA(batch_size=2), BOME(batch_size=2)],
    ids=["automatic", "maid", "gauss-newton", "f2sa", "bome"],
)
def test_algorithms_rely_on_estimates(algorithm: bl.extend.Algorithm | None) -> None:
    one, other = (
        bl.learn(problem(loss), algorithm, budget=bl.Budget(steps=9)) for loss in (UNKNOWN, KNOWN)
    )
    assert one.history[-1].value < 0.9 * one.history[0].value
    assert one.status is not Status.CONVERGED, "which claims a proved error"
    assert all(line.error == line.interval == math.inf for line in one.history)
    near = algebra.norm(algebra.add(one.theta, other.theta, -1.0))
    assert near < 0.1


def test_certified_steps_are_refused() -> None:
    with pytest.raises(bl.InputError, match="leave out certified"):
        maid = bl.algorithms.MAID(certified=True)
        bl.learn(problem(UNKNOWN), maid, budget=bl.Budget(steps=50))


def test_ssim_proves_errors_that_hold() -> None:
    clean = bl.data.embedded_images(size=16)[:2].double()
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    energy = bl.Variational(
        bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.03, 0.05)
    ).double()
    pairs = bl.data.Pairs(noisy, clean, ("a", "b"))
    one = bl.BilevelProblem(energy, bl.losses.SSIM(), pairs)
    truth = one.value_and_grad(one.theta, tol=1e-11)
    loose = bl.BilevelProblem(energy, bl.losses.SSIM(), pairs)
    for tol in (1e-3, 1e-5):
        found = loose.value_and_grad(loose.theta, tol=tol)
        assert found.proved
        off = algebra.norm(algebra.add(found.grad, truth.grad, -1.0))
        assert off <= found.error + truth.error
        assert abs(found.corrected - truth.corrected) <= found.interval + truth.interval
