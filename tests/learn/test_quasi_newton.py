"""L-BFGS by directions that no unit of the loss and no precision of θ changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import bilevel as bl
from bilevel.learn.algorithms.lbfgs import projected_gradient


def of_filters(factor: float, dtype: torch.dtype) -> bl.Fit:
    """Nine filters and weights, too many for a first curvature, of pictures in some unit."""
    images = bl.data.embedded_images(size=16)[:2].double()
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    y, target = (factor * part.to(dtype) for part in (pairs.y, pairs.target))
    experts = bl.regularisers.FieldsOfExperts(bl.regularisers.dct_filters(3))
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts).to(dtype)
    problem = bl.BilevelProblem(
        energy, bl.losses.SquaredError(), bl.data.Pairs(y, target, pairs.ids)
    )
    return bl.learn(problem, bl.algorithms.LBFGS(), budget=bl.Budget(steps=5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loss_of_any_unit_is_searched(dtype: torch.dtype) -> None:
    expected, factor = of_filters(1.0, dtype), 1e-6
    found = of_filters(factor, dtype)
    values = [at.value / factor**2 for at in found.history]
    assert values == pytest.approx([at.value for at in expected.history], rel=1e-2)
    assert found.cost.gradient_evaluations == pytest.approx(
        expected.cost.gradient_evaluations, rel=0.1
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_entries_beside_steep_ones_keep_their_slope(dtype: torch.dtype) -> None:
    y = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.05)).to(
        dtype
    )
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), bl.data.Pairs(y, y, ("a",)))
    at = problem.value_and_grad(problem.theta, tol=1e-2)
    steep, flat = at.theta
    grad = {steep: torch.tensor(1.0, dtype=dtype), flat: torch.tensor(1e-5, dtype=dtype)}
    free = projected_gradient(problem, replace(at, grad=grad))
    assert [float(free[name] / grad[name]) for name in grad] == pytest.approx([1.0, 1.0], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_entries_at_the_border_of_the_set_have_no_slope(dtype: torch.dtype) -> None:
    y = torch.ones(1, 1, 4, 4, dtype=dtype)
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(0.1)).to(dtype)
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), bl.data.Pairs(y, y, ("a",)))
    (name,) = problem.theta
    far = {name: torch.tensor(1e3, dtype=dtype)}
    for sign in (-1, 1):
        end = problem.space.project({name: sign * far[name]})
        at = replace(problem.value_and_grad(problem.theta, tol=1e-2), theta=end)
        outward = replace(at, grad={name: torch.tensor(-3.0 * sign, dtype=dtype)})
        inward = replace(at, grad={name: torch.tensor(3.0 * sign, dtype=dtype)})
        assert float(projected_gradient(problem, outward)[name]) == 0
        assert float(projected_gradient(problem, inward)[name]) == pytest.approx(3 * sign, rel=1e-3)


def test_dfo_ls_ends_at_the_same_loss_in_any_unit() -> None:
    pytest.importorskip("dfols")
    images = bl.data.embedded_images(size=12)[:1].double()
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    losses: list[float] = []
    for factor in (1.0, 1e-6):
        y, target = factor * pairs.y, factor * pairs.target
        tv = bl.regularisers.TotalVariation(learn=("weight",))
        energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
        problem = bl.BilevelProblem(
            energy, bl.losses.SquaredError(), bl.data.Pairs(y, target, pairs.ids)
        )
        fit = bl.learn(problem, bl.algorithms.DFOLS(), budget=bl.Budget(steps=4))
        losses.append(fit.history[-1].value / factor**2)
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
