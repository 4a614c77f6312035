"""Learned potentials: derivatives, constants against a grid, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.theta import bind
from bilevel.model.regularisers import LearnedPotential

R = bl.regularisers
KNOTS = torch.tensor([0.2, 0.5, 1.5])
GRID = torch.linspace(0, 12, 240_001, dtype=torch.float64)


def spline() -> LearnedPotential:
    return R.LinearSpline(KNOTS, 2 * torch.rand(2, 3) - 1).double()


def basis() -> LearnedPotential:
    return R.RadialBasis(torch.randn(2, 6), reach=4.0, width=0.5).double()


@pytest.mark.parametrize("make", [spline, basis])
def test_derivatives(make) -> None:
    psi = make().potential
    s = (3 * torch.randn(1, 2, 200, 1, dtype=torch.float64)).requires_grad_()
    (slope,) = torch.autograd.grad(psi.value(s).sum(), s)
    torch.testing.assert_close(psi.slope(s).detach(), slope, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close((psi.ratio(s) * s).detach(), slope, rtol=1e-9, atol=1e-11)
    (curvature,) = torch.autograd.grad(psi.slope(s).sum(), s)
    torch.testing.assert_close(psi.curvature(s).detach(), curvature, rtol=1e-8, atol=1e-9)
    near = torch.full((1, 2, 1, 1), 1e-9, dtype=torch.float64)
    torch.testing.assert_close(psi.ratio(near), psi.curvature(0 * near))
    assert not bool(psi.value(0 * near).any())


@pytest.mark.parametrize("make", [spline, basis])
def test_constants_are_bounds_that_are_nearly_reached(make) -> None:
    psi, s = make().potential, GRID.view(1, 1, -1, 1).expand(1, 2, -1, 1)
    constants = psi.constants
    curvature = psi.curvature(s).detach()
    least, most = (v[0, :, :, 0] for v in curvature.aminmax(dim=2, keepdim=True))
    assert bool((constants.curvature_min[..., 0] <= least).all())
    assert bool((constants.curvature_max[..., 0] >= most).all())
    assert float((constants.curvature_max[..., 0] - most).max()) <= 0.01 * float(most.abs().max())
    step = float(GRID[1])
    third = curvature.diff(dim=2).abs() / step
    scaled = (s * curvature).diff(dim=2).abs() / step
    if psi.jump(s, torch.full_like(s, 1e-3)).abs().max() == 0:
        assert bool((third.amax(2)[0] <= constants.lipschitz[..., 0] * (1 + 1e-6)).all())
        assert bool((scaled.amax(2)[0] <= constants.scale_lipschitz[..., 0] * (1 + 1e-6)).all())
        assert bool((constants.lipschitz[..., 0] <= 1.05 * third.amax(2)[0]).all())


@pytest.mark.parametrize("make", [spline, basis])
def test_combinations_of_norm_one_are_as_lipschitz_as_is_said(make) -> None:
    learned = make()
    s = GRID[::100].view(1, 1, -1, 1).expand(1, 2, -1, 1)
    parameter = learned.parameter

    def slope(coefficients: Tensor) -> Tensor:
        name = next(iter(dict(learned.named_parameters())))
        return bind(learned, {name: coefficients}).potential.slope(s)

    unit = torch.randn(20, *parameter.shape, dtype=torch.float64)
    unit = unit / unit.norm(dim=-1, keepdim=True)
    for delta in unit:
        combined = (slope(parameter + delta) - slope(parameter)).detach()
        rate = combined.diff(dim=2).abs() / float(GRID[100])
        assert float(rate.max()) <= learned.basis_lipschitz * (1 + 1e-9)
        assert bool((combined.abs() <= learned.basis_norm(s) + 1e-12).all())


@pytest.mark.parametrize("kind", ["spline", "rbf"])
def test_they_begin_as_a_potential_that_is_known(kind: str) -> None:
    learned = R.FieldsOfExperts(R.dct_filters(3), 0.1, 0.1, potential=kind).double()
    known = R.FieldsOfExperts(R.dct_filters(3), 0.1, 0.1, potential="charbonnier").double()
    x = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        slope, near = known.grad(x), learned.grad(x)
    assert float((near - slope).norm()) < 0.05 * float(slope.norm())
    assert len(learned.potential.parameter) == 8


def test_log_one_plus_squares_with_filters_in_a_mean_free_basis() -> None:
    """Chen, Ranftl, Pock 2014: Σ_j a_j log(1 + (k_j * x)²), a weight for each filter is learned."""
    a = 0.1 * torch.rand(48, dtype=torch.float64) + 0.01
    filters = R.dct_filters(7).double()
    foe = R.FieldsOfExperts(filters, 2 * a, 1.0, potential="student-t", boundary="valid").double()
    x = 50 * torch.rand(1, 1, 12, 11, dtype=torch.float64)
    cost = torch.log1p(conv2d(x, filters).square()).sum((2, 3)) @ a
    torch.testing.assert_close(foe(x), cost, rtol=1e-6, atol=0)
    assert foe.log_weight.shape == (48,) and foe.log_weight.requires_grad
    mixed = torch.randn(48, 48, dtype=torch.float64) @ filters.flatten(1)
    bank = mixed.view(48, 1, 7, 7)
    torch.testing.assert_close(foe.sets()["filters"].project(bank), bank)


def test_a_fit_keeps_slopes_in_their_interval_and_survives_saving(tmp_path) -> None:
    spline = R.LinearSpline(KNOTS, torch.tensor([1.0, 0.5, 0.2]), slope_min=0.1)
    foe = R.FieldsOfExperts(R.dct_filters(2), 0.2, 0.2, potential=spline)
    images = bl.data.embedded_images(size=12)[:2]
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    problem = bl.BilevelProblem(
        bl.Variational(bl.fidelities.SquaredL2(), foe), bl.losses.SquaredError(), pairs
    )
    fit = bl.learn(problem, budget=bl.Budget(steps=2))
    slopes = fit.theta["regulariser.potential.slopes"]
    assert not torch.equal(slopes, spline.slopes.detach())
    assert float(slopes.min()) >= 0.1 and float(slopes.max()) <= 1.0
    fit.save(tmp_path)
    x = fit.reconstruct(pairs.y).x
    torch.testing.assert_close(bl.load(tmp_path).reconstruct(pairs.y).x, x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: R.LinearSpline(torch.tensor([1.0, 0.5]), torch.ones(2)), "knots must ascend"),
        (lambda: R.LinearSpline(torch.tensor([-1.0, 0.5]), torch.ones(2)), "knots must ascend"),
        (lambda: R.LinearSpline(torch.ones(1, 2), torch.ones(2)), "knots must have shape"),
        (lambda: R.LinearSpline(KNOTS, torch.ones(2)), r"slopes must have shape \(3,\)"),
        (lambda: R.LinearSpline(KNOTS, 2 * torch.ones(3)), r"slopes must lie in \[-1, 1\]"),
        (lambda: R.LinearSpline(KNOTS, torch.ones(3) / 0), "slopes must be finite"),
        (lambda: R.LinearSpline(KNOTS, torch.ones(3), slope_min=1.0), "slopes need an interval"),
        (lambda: R.LinearSpline.like("charbonier"), "did you mean 'charbonnier'"),
        (lambda: R.LinearSpline.like("huber", reach=-1.0), "positive reach"),
        (lambda: R.RadialBasis(torch.ones(3), width=-0.1), "width must be a positive"),
        (lambda: R.RadialBasis(torch.ones(3), reach=0.0), "reach must be a positive"),
        (lambda: R.RadialBasis(torch.ones(3) * math.nan), "coefficients must be finite"),
        (lambda: R.RadialBasis(torch.ones(1, 2, 3)), "coefficients must have shape"),
        (lambda: R.RadialBasis(torch.tensor(1.0)), "coefficients must have shape"),
        (lambda: R.RadialBasis.like("huber", centres=0), "at least 1 centre"),
        (
            lambda: R.FieldsOfExperts(R.dct_filters(3), potential=spline()),
            "coefficients for 2 filters",
        ),
        (lambda: R.FieldsOfExperts(potential="splin"), "did you mean 'spline'"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
