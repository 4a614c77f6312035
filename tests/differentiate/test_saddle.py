"""Energies with dual terms: what first-order methods give, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    Implicit,
    JacobianFree,
    Neumann,
    Shine,
    Unrolled,
    Upper,
    ValueFunction,
    finite_differences,
)
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable
from bilevel.model import SaddleObjective
from bilevel.solve import Solution, Tolerance, certify, minimise
from contracts.composites import make

LOSS = bl.losses.SquaredError()


def saddle(weight: float = 0.1) -> bl.Variational:
    tv = bl.regularisers.ExactTotalVariation(weight, isotropic=False)
    fidelity = bl.fidelities.SquaredL2(learn=("weight",))
    return bl.Variational(fidelity, tv + bl.regularisers.Box(0.2, 0.8)).double()


def test_differences_of_saddle_problems_agree_with_finite_differences() -> None:
    energy, y = saddle(), torch.rand(1, 1, 4, 5, dtype=torch.float64)
    upper, theta = Upper(LOSS, torch.rand_like(y)), learnable(energy)

    def solved(theta: bl.Theta) -> Solution:
        return minimise(energy.at(y, theta), bl.solvers.PDHG(), tol=Tolerance(rms=1e-7))

    differences = finite_differences(lambda t: float(upper.value(solved(t).x)), theta, 1e-3)
    size, lower, solution = algebra.norm(differences), energy.at(y), solved(theta)
    for method, allowed in ((EquilibriumPropagation(1e-4), 1e-5), (ValueFunction(1e4), 1e-2)):
        found = method(lower, upper, solution, rtol=1e-4, estimate=True)
        assert algebra.norm(algebra.add(found.grad, differences, -1.0)) <= allowed * size
        error = algebra.norm(algebra.add(found.grad, differences, -1.0))
        assert error / 3 <= found.estimate + 1e-5 * size <= 30 * error + 1e-3 * size
        assert math.isinf(found.bound), "nothing is proved about the gradient"
        assert bool((found.interval < 1e-6).all()), "but something is about the value"


def test_a_saddle_problem_is_learned_by_differences() -> None:
    images = bl.data.shepp_logan(12).double()
    noise = bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=1)
    energy = bl.Variational(
        bl.fidelities.SquaredL2(), bl.regularisers.ExactTotalVariation(0.01, isotropic=False)
    ).double()
    method = EquilibriumPropagation(1e-3)
    problem = bl.BilevelProblem(energy, LOSS, pairs, hypergradient=method)
    fit = bl.learn(problem, bl.algorithms.MAID(), budget=bl.Budget(steps=4))
    assert fit.history[-1].value < 0.8 * fit.history[0].value


def test_a_pull_is_part_of_the_smooth_term() -> None:
    from bilevel.differentiate.perturbed import LossPull

    y = torch.rand(2, 1, 4, 5)
    x, upper = y / 2 + 0.3, Upper(LOSS, torch.rand_like(y))
    strength, boxed = torch.tensor([0.1, -0.2]), bl.regularisers.Box(0.2, 0.8)
    composite = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Sparsity(0.1) + boxed)
    for energy in (composite, saddle().float()):
        lower = energy.at(y)
        pulled = lower.plus(LossPull(upper, strength))
        expected = lower.value(x) + strength * upper.value(x)
        torch.testing.assert_close(pulled.value(x), expected)
        torch.testing.assert_close(pulled.double().value(x.double()), expected.double())
        torch.testing.assert_close(pulled.taped(lower.theta).value(x), expected)
        torch.testing.assert_close(pulled.rows(torch.tensor([1])).value(x[1:]), expected[1:])
        assert torch.isfinite(pulled.double().theta_grad(x.double(), strength.double())[0]).all()
    bare = bl.regularisers.ExactTotalVariation(0.1, isotropic=False)
    whole = bl.Variational(bl.fidelities.L1(), bare).at(y).plus(LossPull(upper, strength))
    assert bool(certify(whole, x).gap.isinf().all()), "the target may lie beyond the data"
    assert bool(certify(whole.double(), x.double()).gap.isinf().all())


@pytest.mark.parametrize("kind", ["composite", "saddle"])
def test_what_does_not_fit_is_refused_in_words(kind: str) -> None:
    energy = make("box", "tikhonov", 1).energy if kind == "composite" else saddle()
    y = torch.rand(1, 1, 6, 8, dtype=torch.float64)
    energy = bl.Variational(bl.fidelities.SquaredL2(), energy.regulariser).double()
    lower, upper = energy.at(y), Upper(LOSS, y)
    solution = minimise(lower, bl.solvers.accelerated(lower), tol=Tolerance(rms=1e-3))
    with pytest.raises(InputError, match="GradientDescent needs a smooth"):
        Unrolled(3)(lower, upper, solution)
    if kind == "composite":
        with pytest.raises(InputError, match="SHINE needs a smooth"):
            Shine()(lower, upper, solution)
        return
    for method in (Implicit(), Neumann(3), JacobianFree(), Shine()):
        with pytest.raises(InputError, match=r"without dual terms.*use Piggyback"):
            method(lower, upper, solution)


def test_differences_need_strong_convexity_of_saddle_problems() -> None:
    mask = bl.operators.Mask(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    total = bl.regularisers.ExactTotalVariation(0.1)
    lower = bl.Variational(bl.fidelities.SquaredL2(mask), total).at(torch.rand(1, 1, 2, 2))
    solution = minimise(lower, bl.solvers.PDHG(), tol=Tolerance(gap=1e-2))
    upper = Upper(LOSS, torch.rand(1, 1, 2, 2))
    for method in (EquilibriumPropagation(), ValueFunction()):
        with pytest.raises(InputError, match=r"strong convexity.*Piggyback"):
            method(lower, upper, solution)


def test_the_estimate_does_not_vanish_where_convexity_limits_the_pull() -> None:
    torch.manual_seed(0)
    y, target = torch.rand(2, 1, 1, 5, 6, dtype=torch.float64).unbind()
    total = bl.regularisers.ExactTotalVariation(0.1) + bl.regularisers.Tikhonov(1e-2, learn=())
    mask = bl.operators.Mask(torch.rand(5, 6) > 0.2)
    lower = bl.Variational(bl.fidelities.SquaredL2(mask), total).double().at(y)
    solution = minimise(lower, bl.solvers.PDHG(), tol=Tolerance(gap=1e-9))
    found = EquilibriumPropagation(0.5)(lower, Upper(LOSS, target), solution, estimate=True)
    assert found.estimate > 0


def test_rows_are_reached_one_by_one() -> None:
    """The interval of pixels of a row is that of its data, widened to meet the box."""
    terms = bl.regularisers.ExactTotalVariation(0.1) + bl.regularisers.Box(0.0, 0.5)
    mask = bl.operators.Mask(torch.ones(2, 2))
    y = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 0.8, 0.9]]).view(2, 1, 2, 2)
    lower = bl.Variational(bl.fidelities.SquaredL2(mask), terms).at(y)
    assert isinstance(lower, SaddleObjective)
    torch.testing.assert_close(lower.lower.flatten(), torch.tensor([0.1, 0.5]))
