from __future__ import annotations

import pytest
import torch

from bilevel.model.potentials import POTENTIALS

GRID = torch.linspace(-40, 40, 400_001, dtype=torch.float64)


@pytest.mark.parametrize("name", POTENTIALS)
def test_derivatives(name: str) -> None:
    psi = POTENTIALS[name]
    s = GRID[GRID.abs().sub(psi.kink).abs() > 1e-3][::50].clone().requires_grad_()
    slope = torch.autograd.grad(psi.value(s).sum(), s, create_graph=True)[0]
    torch.testing.assert_close(psi.ratio(s) * s, slope, rtol=1e-8, atol=1e-10)
    curvature = torch.autograd.grad((psi.ratio(s) * s).sum(), s)[0]
    torch.testing.assert_close(psi.curvature(s), curvature, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", POTENTIALS)
def test_constants_are_suprema(name: str) -> None:
    psi = POTENTIALS[name]
    step = float(GRID[1] - GRID[0])
    slope, curvature = psi.ratio(GRID) * GRID, psi.curvature(GRID)
    assert slope.abs().max() <= psi.slope_max <= 1.1 * slope.abs().max()
    assert curvature.max() <= 1
    assert psi.curvature_min <= curvature.min() <= psi.curvature_min + 1e-4
    third = curvature.diff() / step
    near = (GRID[1:].abs() - psi.kink).abs() > 2 * step
    assert third[near].abs().max() <= psi.lipschitz * (1 + 1e-6)
    assert psi.lipschitz <= third[near].abs().max() * (1 + 1e-5)
    turning = ((GRID[1:] + GRID[:-1]) / 2 * third)[near].abs().max()
    assert turning <= psi.turning * (1 + 1e-6) + 1e-9
    assert psi.turning <= turning * (1 + 1e-3) + 1e-9


@pytest.mark.parametrize("name", POTENTIALS)
def test_lipschitz_holds_for_the_radial_function(name: str) -> None:
    """∇²ψ(|p|) along random pairs of nearby points in the plane that no kink separates."""
    psi = POTENTIALS[name]
    p = 3 * torch.randn(200_000, 2, dtype=torch.float64)
    d = 1e-4 * torch.randn(200_000, 2, dtype=torch.float64)
    apart = (p.norm(dim=1) - psi.kink).abs() > 1e-3
    p, d = p[apart], d[apart]

    def hessian(p):
        s = p.norm(dim=1)[:, None, None]
        n = p / p.norm(dim=1, keepdim=True)
        outer = n[:, :, None] * n[:, None, :]
        across, along = psi.ratio(s), psi.curvature(s)
        return across * torch.eye(2, dtype=p.dtype) + (along - across) * outer

    change = torch.linalg.matrix_norm(hessian(p + d) - hessian(p), 2) / d.norm(dim=1)
    assert change.max() <= psi.radial_lipschitz * 1.01


@pytest.mark.parametrize("name", POTENTIALS)
def test_smoothing_force_is_lipschitz_with_constant_one(name: str) -> None:
    """s ψ''(s), the derivative of the force in log ν, away from kinks."""
    psi = POTENTIALS[name]
    step = float(GRID[1] - GRID[0])
    change = (GRID * psi.curvature(GRID)).diff() / step
    near = (GRID[1:].abs() - psi.kink).abs() > 2 * step
    assert change[near].abs().max() <= 1 + 1e-6
    assert (GRID * psi.curvature(GRID)).abs().max() <= 1


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e4, 1e8])
def test_extreme_arguments_in_float32(name: str, scale: float) -> None:
    s = torch.tensor([scale, -scale], dtype=torch.float32)
    psi = POTENTIALS[name]
    for function in (psi.value, psi.ratio, psi.curvature):
        assert bool(torch.isfinite(function(s)).all())
    if scale < 1:
        torch.testing.assert_close(psi.ratio(s), torch.ones(2))
        torch.testing.assert_close(psi.curvature(s), torch.ones(2))
