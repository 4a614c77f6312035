"""Non-convex energies: what is told about curvature, and local certificates against the truth."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import Implicit, Upper
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.solve import Claim, certify, certify_locally, curvature
from contracts.nonconvex import as_solution, data_and_starts, polished, saddles, student
from contracts.zoo import make

ENERGY = student()
Y, STARTS = data_and_starts()
OBJECTIVE = ENERGY.at(Y)


@pytest.fixture(scope="module")
def solved() -> bl.Solution:
    tol = bl.Tolerance(residual=1e-7)
    return bl.minimise(OBJECTIVE, bl.solvers.LBFGS(), STARTS, tol=tol).require()


def test_from_a_hundred_starts(solved: bl.Solution) -> None:
    residual = OBJECTIVE.grad(solved.x).square().mean((1, 2, 3)).sqrt()
    assert float(residual.max()) <= 1e-7
    assert len(set(OBJECTIVE.value(solved.x).mul(1e6).round().tolist())) > 30, "many minimisers"
    assert bool((solved.certificate.claim == Claim.STATIONARY).all())
    assert bool(solved.certificate.rms.isinf().all())
    local = certify_locally(OBJECTIVE, solved).certificate
    claimed = torch.nonzero(local.claim == Claim.LOCAL).flatten()
    assert len(claimed) >= 80
    assert bool(local.rms[local.claim == Claim.STATIONARY].isinf().all())
    assert bool(local.gap.isinf().all()), "nothing is known about the least value"
    for k in claimed.tolist():
        x = solved.x[k : k + 1]
        exact, eigenvalues = polished(ENERGY, x, Y[:1])
        assert float((x - exact).square().mean().sqrt()) <= float(local.rms[k])
        assert float(local.rms[k]) < 1e-4
        assert 0 < float(local.curvature[k]) <= float(eigenvalues[0])


def test_saddles_are_told_and_certified_as_critical_points(solved: bl.Solution) -> None:
    middle = (solved.x + solved.x.roll(7, 0)) / 2
    x = saddles(ENERGY, Y, middle)
    y = Y[: len(x)]
    x = x + 1e-9 * torch.randn_like(x)
    solution = as_solution(ENERGY, y, x)
    told = curvature(ENERGY.at(y), solution)
    local = certify_locally(ENERGY.at(y), solution).certificate
    assert int(told.indefinite.sum()) >= 20
    assert int((local.claim == Claim.CRITICAL).sum()) >= 20
    for k in range(len(x)):
        exact, eigenvalues = polished(ENERGY, x[k : k + 1], y[:1])
        assert bool(told.indefinite[k]) == (float(eigenvalues[0]) < 0)
        assert ("negative curvature" in told.words[k]) == (float(eigenvalues[0]) < 0)
        if local.claim[k] == Claim.STATIONARY:
            continue
        assert (local.claim[k] == Claim.LOCAL) == (float(eigenvalues[0]) > 0)
        assert float((x[k] - exact[0]).square().mean().sqrt()) <= float(local.rms[k])
        assert 0 < float(local.curvature[k]) <= float(eigenvalues.abs().min())


def test_a_sloppy_point_is_not_certified() -> None:
    solution = as_solution(ENERGY, Y, STARTS)
    assert bool((certify_locally(OBJECTIVE, solution).certificate.claim == Claim.STATIONARY).all())


@pytest.mark.parametrize("power", [5, 7, 9])
def test_hypergradients_at_local_minimisers_have_bounds_that_hold(
    solved: bl.Solution, power: int
) -> None:
    upper = Upper(bl.losses.SquaredError(), torch.zeros_like(Y[:1]))
    claimed = 0
    for k in range(0, 20, 2):
        exact, eigenvalues = polished(ENERGY, solved.x[k : k + 1], Y[:1])
        lower = ENERGY.at(Y[:1])
        truth = Implicit("minres")(lower, upper, as_solution(ENERGY, Y[:1], exact), rtol=1e-12)
        x = exact + 10.0**-power * torch.randn_like(exact)
        solution = certify_locally(lower, as_solution(ENERGY, Y[:1], x))
        found = Implicit("minres")(lower, upper, solution, rtol=1e-10)
        error = algebra.norm(algebra.add(found.grad, truth.grad, -1.0))
        claimed += math.isfinite(found.bound)
        assert math.isfinite(found.bound) == bool(solution.certificate.claim[0])
        assert error <= found.bound
        assert bool(((found.corrected - truth.value).abs() <= found.interval).all())
        assert float(eigenvalues[0]) > 0
    assert claimed >= (0 if power == 5 else 8)


def test_bounds_of_the_smallest_eigenvalue(solved: bl.Solution) -> None:
    exact = [polished(ENERGY, solved.x[k : k + 1], Y[:1])[1][0] for k in range(10)]
    truth = torch.stack(exact)
    some = as_solution(ENERGY, Y[:10], solved.x[:10])
    dense = curvature(ENERGY.at(Y[:10]), some)
    assert bool((dense.lower <= truth + 1e-5).all())
    assert bool((dense.upper >= truth - 1e-5).all())
    torch.testing.assert_close(dense.lower, dense.upper, rtol=1e-9, atol=1e-9)
    assert all("positive definite" in line for line in dense.words)
    searched = curvature(ENERGY.at(Y[:10]), some, steps=20, dense=0)
    assert bool((searched.upper >= truth - 1e-5).all())
    assert bool((searched.lower <= truth).all())
    assert not bool(searched.definite.any()), "Lanczos proves no lower bound"
    assert all("no negative curvature was found" in line for line in searched.words)


def test_lanczos_finds_negative_curvature_in_larger_images() -> None:
    foe = bl.regularisers.FieldsOfExperts(weight=5.0, smoothing=0.05, potential="student-t")
    energy = bl.Variational(bl.fidelities.SquaredL2(), foe)
    y = torch.rand(2, 1, 40, 40)
    y[1] = 0.5
    told = curvature(energy.at(y), as_solution(energy, y, y))
    assert told.indefinite.tolist() == [True, False]
    q = told.direction.float()
    assert float((q * energy.at(y).hessian(y)(q))[0].sum()) < 0


def test_an_energy_that_declares_nothing_has_its_negative_curvature_told() -> None:
    class Bare(bl.Energy):
        """A double well in every pixel."""

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return ((x.square() - 1).square() / 4).flatten(1).sum(1) + 0 * y.sum()

    objective = Bare().at(torch.zeros(2, 1, 3, 3))
    x = torch.stack([torch.zeros(1, 3, 3), torch.ones(1, 3, 3)])
    status = torch.zeros(2, dtype=torch.long)
    found = certify(objective, x)
    solution = bl.Solution(x, found, status, status, bl.Tolerance(residual=1.0))
    told = curvature(objective, solution)
    assert told.indefinite.tolist() == [True, False]
    assert not bool(told.definite.any())
    local = certify_locally(objective, solution).certificate
    assert local.claim.tolist() == [Claim.STATIONARY] * 2


def test_global_certificates_stay_and_float32_is_served() -> None:
    case = make("circular", "tv charbonnier", 1, torch.float32)
    objective = case.energy.at(case.y)
    tol = bl.Tolerance(rms=1e-3)
    solution = bl.minimise(objective, bl.solvers.Nesterov(), tol=tol)
    assert solution.certificate.claim.tolist() == [Claim.GLOBAL]
    torch.testing.assert_close(solution.certificate.curvature, objective.bounds.mu)
    after = certify_locally(objective, solution)
    assert torch.equal(after.certificate.rms, solution.certificate.rms)
    single = ENERGY.float()
    try:
        x, y = STARTS[:5].float(), Y[:5].float()
        tol = bl.Tolerance(residual=1e-4)
        found = bl.minimise(single.at(y), bl.solvers.LBFGS(), x, tol=tol)
        local = certify_locally(single.at(y), found).certificate
        for k in torch.nonzero(local.claim == Claim.LOCAL).flatten().tolist():
            point = found.x[k : k + 1].double()
            exact, _ = polished(single.double(), point, y[:1].double())
            assert float((point - exact).square().mean().sqrt()) <= float(local.rms[k])
    finally:
        single.double()


def test_piecewise_quadratic_energies_are_certified_within_a_piece() -> None:
    """A Huber fields of experts without proved strong convexity: L = 0 where no kink is near."""
    filters = torch.randn(2, 1, 2, 2)
    foe = bl.regularisers.FieldsOfExperts(filters, 0.3, 0.05, potential="huber")
    mask = torch.ones(6, 8, dtype=torch.bool)
    mask[2, 3] = False
    energy = bl.Variational(bl.fidelities.SquaredL2(bl.operators.Mask(mask)), foe).double()
    y = torch.rand(8, 1, 6, 8, dtype=torch.float64) * mask
    solution = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=bl.Tolerance(residual=1e-8))
    local = certify_locally(energy.at(y), solution.require()).certificate
    claimed = torch.nonzero(local.claim == Claim.LOCAL).flatten().tolist()
    assert len(claimed) >= 4
    for k in claimed:
        x = solution.x[k : k + 1]
        exact, eigenvalues = polished(energy, x, y[k : k + 1])
        assert float((x - exact).square().mean().sqrt()) <= float(local.rms[k])
        assert float(local.curvature[k]) <= float(eigenvalues[0])


def test_large_images_are_refused() -> None:
    energy = bl.Variational(
        bl.fidelities.SquaredL2(), bl.regularisers.FieldsOfExperts(potential="student-t")
    )
    y = torch.rand(1, 1, 65, 64)
    with pytest.raises(InputError, match="at most 4096"):
        certify_locally(energy.at(y), as_solution(energy, y, y))
