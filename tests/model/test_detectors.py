"""Fidelities of detectors against their definitions: infimal convolution, weights, gains."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import wrightomega

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model.fidelities.gaussian_poisson import wright_omega

DOUBLE = torch.float64


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
def test_wrights_omega_is_that_of_scipy(dtype: torch.dtype, digits: float) -> None:
    z = torch.linspace(-39.0, 1000.0, 20_001, dtype=dtype)
    exact = torch.from_numpy(np.real(wrightomega(z.double().numpy())))
    assert float((wright_omega(z).double() / exact - 1).abs().max()) < digits


def test_derivatives_of_wrights_omega_are_right_three_times() -> None:
    """ω' = ω/(1 + ω), ω'' = ω/(1 + ω)³, ω''' = ω (1 - 2 ω)/(1 + ω)⁵."""
    z = torch.linspace(-30.0, 50.0, 81, dtype=DOUBLE, requires_grad=True)
    omega = wright_omega(z)
    w = omega.detach()
    wanted = (w / (1 + w), w / (1 + w) ** 3, w * (1 - 2 * w) / (1 + w) ** 5)
    found = omega
    for exact in wanted:
        found = torch.autograd.grad(found.sum(), z, create_graph=True)[0]
        torch.testing.assert_close(found.detach(), exact, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("gaussian", "poisson"), [(1.0, 1.0), (0.25, 3.0), (100.0, 0.5)])
def test_the_infimal_convolution_is_the_minimum_of_its_definition(
    gaussian: float, poisson: float
) -> None:
    rng = generator(0, "infimal")
    background = 0.3
    fidelity = bl.fidelities.GaussianPoisson(None, gaussian, poisson, background).double()
    gaussian, poisson = (float(log.exp()) for log in (fidelity.log_gaussian, fidelity.log_poisson))
    for _ in range(40):
        x = 5 * float(torch.rand((), generator=rng))
        f = 8 * float(torch.rand((), generator=rng)) - 3

        def inner(log_v: float, x: float = x, f: float = f) -> float:
            v, t = math.exp(log_v), x + background
            share = v * (log_v - math.log(t))
            return 0.5 * gaussian * (f - v) ** 2 + poisson * (t - v + share)

        best = minimize_scalar(inner, bounds=(-60, 4), method="bounded", options={"xatol": 1e-9})
        image, y = (torch.tensor(v, dtype=DOUBLE).view(1, 1, 1, 1) for v in (x, f - background))
        assert float(fidelity(image, y)) == pytest.approx(float(best.fun), rel=1e-9, abs=1e-9)
        v = float(fidelity.counted(image, y))
        assert inner(math.log(v)) == pytest.approx(float(best.fun), rel=1e-9, abs=1e-9)


def test_without_read_noise_it_is_the_divergence_and_without_photon_noise_the_square() -> None:
    rng = generator(1, "limits")
    x, y = (torch.rand(1, 1, 6, 6, generator=rng, dtype=DOUBLE) for _ in range(2))
    sharp = bl.fidelities.GaussianPoisson(None, 1e9, 5.0, 0.1).double()
    divergence = bl.fidelities.KullbackLeibler(None, 0.1, 1.0, gain=0.2).double()
    torch.testing.assert_close(sharp(x, y), divergence(x, y), rtol=1e-6, atol=0)
    torch.testing.assert_close(sharp.grad(x, y), divergence.grad(x, y), rtol=1e-5, atol=1e-5)
    steady = bl.fidelities.GaussianPoisson(None, 4.0, 1e9, 0.1).double()
    square = bl.fidelities.SquaredL2(weight=4.0).double()
    torch.testing.assert_close(steady.grad(x, y), square.grad(x, y), rtol=1e-5, atol=1e-5)


def test_values_far_below_the_offset_are_data_like_any() -> None:
    """Thirty read noises below zero: exp underflows in float32, the fidelity does not."""
    fidelity = bl.fidelities.GaussianPoisson(None, 100.0, 1.0, 0.01)
    x, y = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), -3.0)
    exact = bl.fidelities.GaussianPoisson(None, 100.0, 1.0, 0.01).double()
    assert float(fidelity(x, y)) == pytest.approx(float(exact(x.double(), y.double())), rel=1e-5)
    assert float(fidelity.grad(x, y)) == pytest.approx(1.0, abs=1e-5)  # λ₂, as v vanishes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_curvature_exceeds_the_bound_at_any_signal(dtype: torch.dtype) -> None:
    rng = generator(2, "curvature")
    fidelity = bl.fidelities.GaussianPoisson(None, 40.0, 25.0, 0.02).to(dtype)
    y = (3 * torch.rand(2, 1, 16, 16, generator=rng) - 0.5).to(dtype)
    bound = fidelity.bounds((1, 16, 16), y).for_rows(y).lipschitz
    for size in (0.0, 0.02, 0.5, -0.01, -0.02, -5.0):
        x = torch.full_like(y, size)
        curvature = fidelity.hessian(x, y)(torch.ones_like(y)).detach().flatten(1)
        assert bool((curvature.amax(1).double() <= bound * (1 + 1e-6)).all())
        assert float(curvature.min()) >= 0


def test_weights_are_a_mask_of_their_roots_on_scaled_data() -> None:
    rng = generator(3, "weights")
    blur = bl.operators.Convolution(torch.rand(3, 3, generator=rng), "reflecting")
    weights = 2 * torch.rand(1, 8, 9, generator=rng)
    weights[0, 2, 3] = 0
    x, y = (torch.rand(2, 1, 8, 9, generator=rng, dtype=DOUBLE) for _ in range(2))
    own = bl.fidelities.SquaredL2(blur, 0.7, weights).double()
    scaled = bl.fidelities.SquaredL2(bl.operators.Mask(weights.sqrt()) @ blur, 0.7).double()
    z = weights.sqrt().double() * y
    torch.testing.assert_close(own(x, y), scaled(x, z), rtol=1e-6, atol=0)
    torch.testing.assert_close(own.grad(x, y), scaled.grad(x, z), rtol=1e-5, atol=1e-6)
    found, other = (f.bounds((1, 8, 9), y) for f in (own, scaled))
    assert float(found.lipschitz) == pytest.approx(float(other.lipschitz), rel=1e-5)


def test_the_minimiser_with_weights_is_certified_and_that_of_a_dense_system() -> None:
    """Denoising with a variance map: (M + w I) x = M y, and mu is the least weight plus w."""
    rng = generator(4, "variance")
    variance = 0.2 + torch.rand(6, 7, generator=rng)
    fidelity = bl.fidelities.SquaredL2.of_variance(variance)
    energy = bl.Variational(fidelity, bl.regularisers.Tikhonov(0.5)).double()
    y = torch.rand(1, 1, 6, 7, generator=rng, dtype=DOUBLE)
    objective = energy.at(y)
    m = fidelity.weights.double()
    assert float(objective.bounds.mu) == pytest.approx(0.5 + float(m.min()), rel=1e-9)
    assert float(objective.bounds.mu) <= 0.5 + float(m.min()) + 1e-12
    found = bl.minimise(objective, bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-6)).require()
    exact = m * y / (m + 0.5)
    error = float((found.x - exact).square().mean().sqrt())
    assert error <= float(found.certificate.rms) <= 1e-6


def test_a_datum_without_weight_does_not_matter() -> None:
    weights = torch.ones(12, 12)
    weights[3:6, 3:6] = 0
    tv = bl.regularisers.TotalVariation(0.1, 0.05)
    energy = bl.Variational(bl.fidelities.SquaredL2(weights=weights), tv).double()
    y = bl.data.shepp_logan(12).double()
    broken = torch.where(weights == 0, 1e3, y)
    tol = bl.Tolerance(residual=1e-8)
    both = [bl.minimise(energy.at(z), bl.solvers.LBFGS(), tol=tol).x for z in (y, broken)]
    torch.testing.assert_close(both[0], both[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (torch.tensor([[-1.0, 1.0]]), "must not be negative"),
        (torch.zeros(2, 2), "nor all 0"),
        (torch.tensor([[torch.nan]]), "finite"),
        (torch.ones(2), "2 or 3 dimensions"),
    ],
)
def test_weights_that_are_none_are_refused(weights: torch.Tensor, said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        bl.fidelities.SquaredL2(weights=weights)


def test_weights_of_another_size_are_refused_before_work() -> None:
    fidelity = bl.fidelities.SquaredL2(weights=torch.ones(4, 5))
    energy = bl.Variational(fidelity, bl.regularisers.Tikhonov(1.0))
    with pytest.raises(bl.InputError, match=r"every datum needs a weight.*\(4, 5\)"):
        energy.at(torch.ones(1, 1, 5, 4))
    with pytest.raises(bl.InputError, match="a variance must be positive"):
        bl.fidelities.SquaredL2.of_variance(torch.tensor([[0.0, 1.0]]))


def test_rules_for_one_level_refuse_weights_of_data() -> None:
    fidelity = bl.fidelities.SquaredL2(weights=torch.ones(8, 8))
    energy = bl.Variational(fidelity, bl.regularisers.TotalVariation(1.0))
    y = torch.rand(1, 1, 8, 8)
    for rule in (bl.rules.SURE(0.1), bl.rules.GCV(), bl.rules.Whiteness()):
        with pytest.raises(bl.InputError, match="noise of one level"):
            bl.select(energy, y, rule)


def test_the_gain_makes_the_divergence_the_log_likelihood() -> None:
    peak, background = 30.0, 0.1
    x = torch.rand(1, 1, 5, 5, dtype=DOUBLE)
    y = torch.rand_like(x)
    fidelity = bl.fidelities.KullbackLeibler(background=background, gain=1 / peak).double()
    plain = bl.fidelities.KullbackLeibler(background=background).double()
    torch.testing.assert_close(fidelity(x, y), peak * plain(x, y))
    assert float(fidelity.bounds((1, 5, 5), y).lipschitz) == pytest.approx(
        peak * float(plain.bounds((1, 5, 5), y).lipschitz)
    )
