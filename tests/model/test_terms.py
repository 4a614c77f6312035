"""One sum: fidelities added to fidelities, states wider than the image, weights of rows."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.model.row_weighted import RowWeighted
from contracts.states import InfimalConvolution
from contracts.zoo import dense_hessian, slope

Y = torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
R, F = bl.regularisers, bl.fidelities


def mixed() -> bl.Variational:
    both = F.SquaredL2(weight=0.7, learn=("weight",)) + F.KullbackLeibler(weight=0.4)
    return bl.Variational(both, R.TotalVariation(0.1, 0.1) + R.Tikhonov(0.01)).double()


def wide() -> bl.Variational:
    return bl.Variational(
        F.SquaredL2(), InfimalConvolution() + R.TotalVariation(0.02, 0.1)
    ).double()


@pytest.mark.parametrize("make", [mixed, wide])
def test_derivatives_of_a_sum_are_those_of_its_value(make) -> None:
    energy = make()
    objective = energy.at(Y)
    x = objective.start() + 0.1
    for k in range(2):
        row = torch.tensor([k])
        torch.testing.assert_close(
            objective.rows(row).grad(x[row]), slope(energy, x[row], Y[row]), rtol=1e-9, atol=1e-10
        )
        matrix = dense_hessian(energy, x[row], Y[row])
        eigenvalues = torch.linalg.eigvalsh(matrix)
        assert float(eigenvalues[0]) >= float(objective.bounds.mu[k]) - 1e-10
        assert float(eigenvalues[-1]) <= float(objective.bounds.lipschitz[k]) + 1e-10
        v = torch.rand(1, *x.shape[1:], dtype=x.dtype)
        found = objective.rows(row).hessian(x[row])(v).flatten()
        torch.testing.assert_close(found, matrix @ v.flatten(), rtol=1e-7, atol=1e-9)


def test_fidelities_added_are_certified_and_learned() -> None:
    energy = mixed()
    solution = bl.minimise(energy.at(Y), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-8)).require()
    exact = bl.minimise(energy.at(Y), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-11)).require()
    far = (solution.x - exact.x).square().mean((1, 2, 3)).sqrt()
    assert bool((far <= solution.certificate.rms + exact.certificate.rms).all())
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), bl.data.Pairs(Y, Y, ("a", "b")))
    assert bl.check_hypergradient(problem).passed
    names = [name for name, _ in energy.fidelity.named_parameters()]
    assert names == ["terms.0.log_weight", "terms.1.log_weight"]


def test_a_smooth_and_an_absolute_distance_are_minimised_together() -> None:
    """Elastic data: argmin w|x - y| + ½(x - y)² + ½ r x² is y/(1 + r), or y where w holds it."""
    energy = bl.Variational(F.L1(weight=0.2) + F.SquaredL2(), R.Tikhonov(0.5)).double()
    found = bl.minimise(energy.at(Y), bl.solvers.FISTA(), tol=bl.Tolerance(rms=1e-10)).require()
    pull = energy.fidelity.parts[0].weight.detach()  # below y, upwards
    free = ((Y + pull) / 1.5).minimum(Y)
    torch.testing.assert_close(found.x, free, rtol=0, atol=1e-9)


def test_fidelities_of_other_images_do_not_add() -> None:
    half = bl.operators.Downsampling(2)
    with pytest.raises(InputError, match="one shape"):
        bl.Variational(F.SquaredL2() + F.SquaredL2(half), R.Tikhonov(1.0)).check(Y.float())


def test_losses_and_certificates_speak_of_the_image_of_a_wide_state() -> None:
    energy = wide()
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), bl.data.Pairs(Y, Y, ("a", "b")))
    at = problem.value_and_grad(problem.theta, tol=1e-10)
    objective = energy.at(Y)
    solved = bl.minimise(objective, bl.solvers.LBFGS(), tol=bl.Tolerance(residual=1e-10))
    assert solved.x.shape[1] == 2 and energy.image(solved.x).shape == Y.shape
    assert at.value == pytest.approx(float((energy.image(solved.x) - Y).square().mean()), rel=1e-6)
    assert bl.check_hypergradient(problem, tol=1e-9).passed


def test_an_absolute_distance_in_a_wide_state_is_dualised() -> None:
    energy = bl.Variational(F.SquaredL2(), InfimalConvolution() + R.ExactTotalVariation(0.1))
    tol = bl.Tolerance(residual=1e-3)
    found = bl.minimise(energy.double().at(Y), bl.solvers.PDHG(), tol=tol, max_steps=20_000)
    assert bool(found.converged.all())
    smoothed = bl.Variational(F.SquaredL2(), InfimalConvolution() + R.TotalVariation(0.1, 1e-3))
    near = bl.minimise(smoothed.double().at(Y), bl.solvers.LBFGS(), tol=tol)
    gap = energy.at(Y).value(found.x) - energy.at(Y).value(near.x)
    assert float(gap.max()) <= 1e-2


def test_rows_carry_their_weights_through_rows_double_and_tape() -> None:
    energy = bl.Variational(F.SquaredL2(), R.TotalVariation(0.5, 0.1)).double()
    weight = torch.tensor([0.3, 2.0])
    both = RowWeighted(energy, weight).at(Y)
    x = both.start() + 0.05
    for k in range(2):
        alone = RowWeighted(energy, weight[k : k + 1]).at(Y[k : k + 1])
        part = both.rows(torch.tensor([k]))
        for objective in (part, part.double()):
            torch.testing.assert_close(objective.grad(x[k : k + 1]), alone.grad(x[k : k + 1]))
        q = torch.rand_like(x)
        found = both.cross_vjp(x, q)["log_weight"][k]
        expected = (q[k] * weight[k] * R.TotalVariation(0.5, 0.1).double().grad(x)[k]).sum()
        torch.testing.assert_close(found, expected.detach())
    taped = both.taped({"log_weight": weight.double().log().requires_grad_()})
    assert taped.grad(x).requires_grad


@pytest.mark.parametrize("terms", ["box", "sparse", "exact", "exact, sparse"])
def test_rows_carry_their_weights_into_terms_without_a_gradient(terms: str) -> None:
    parts = {
        "box": R.TotalVariation(0.5, 0.1) + R.Box(0.2, 0.7),
        "sparse": R.TotalVariation(0.5, 0.1) + R.Sparsity(0.3),
        "exact": R.ExactTotalVariation(torch.rand(Y.shape[2:]) + 0.2),
        "exact, sparse": R.ExactTotalVariation(0.2) + R.Sparsity(0.3) + R.Box(0.2),
    }
    energy = bl.Variational(F.SquaredL2(), parts[terms]).double()
    weight, tol = torch.tensor([0.3, 2.0]), bl.Tolerance(rms=1e-6)
    both = RowWeighted(energy, weight).at(Y)
    solver = bl.solvers.automatic(both).solver
    found = bl.minimise(both, solver, tol=tol, max_steps=50_000).require()
    for k in range(2):
        row, x = torch.tensor([k]), found.x[k : k + 1]
        alone = RowWeighted(energy, weight[k : k + 1]).at(Y[k : k + 1])
        for objective in (both.rows(row), both.rows(row).double()):
            torch.testing.assert_close(objective.value(x), alone.value(x))
        expected = energy.fidelity(x, Y[row]) + weight[k] * energy.regulariser(x)
        torch.testing.assert_close(alone.value(x), expected.detach())
        one = bl.minimise(alone, solver, tol=tol, max_steps=50_000).require()
        assert float((one.x - x).square().mean().sqrt()) <= 2e-6
