"""Fidelities of the noise models of the literature against their definitions and their limits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import i0e, i1e
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model import by_row
from bilevel.model.fidelities.pointwise import Pointwise
from bilevel.model.fidelities.rician import STEEPEST, bessel_ratio, ratio_slope_bound
from bilevel.model.part import Units
from contracts.fidelities import FIDELITIES, NEGATIVE

DOUBLE = torch.float64
F = bl.fidelities


def pair(seed: int, count: int = 400) -> tuple[Tensor, Tensor]:
    """Images and data of many pixels in [0, 1]."""
    rng = generator(seed, "noise models")
    x, y = torch.rand(2, 1, 1, 1, count, generator=rng, dtype=DOUBLE)
    return x, y


def test_the_huber_function_is_the_infimal_convolution() -> None:
    x, y = pair(0, 60)
    gaussian, impulse = 3.0, 0.4
    fidelity = F.GaussianImpulse(None, gaussian, impulse).double()
    v = torch.linspace(-1.2, 1.2, 240_001, dtype=DOUBLE)
    total = impulse * v.abs() + 0.5 * gaussian * ((y - x).flatten()[:, None] - v).square()
    assert float(fidelity(x, y)) == pytest.approx(float(total.amin(1).sum()), rel=1e-6)
    found = v[total.argmin(1)]
    torch.testing.assert_close(fidelity.impulses(x, y).flatten(), found, rtol=0, atol=1e-5)


def test_derivatives_by_the_weights_are_those_of_the_envelope_theorem() -> None:
    """∂Ψ/∂λ₁ = Σ (|r| - λ₁/λ₂)₊ and ∂Ψ/∂λ₂ = ½ Σ min(|r|, λ₁/λ₂)²."""
    x, y = pair(1)
    fidelity = F.GaussianImpulse(None, 2.0, 0.5, learn=("gaussian", "impulse")).double()
    logs = (fidelity.log_gaussian, fidelity.log_impulse)
    found = torch.autograd.grad(fidelity(x, y).sum(), logs)
    size, (gaussian, impulse) = (y - x).abs(), (float(log.detach().exp()) for log in logs)
    small = 0.5 * size.clamp_max(impulse / gaussian).square().sum()
    large = (size - impulse / gaussian).clamp_min(0).sum()
    torch.testing.assert_close(found[0], gaussian * small)
    torch.testing.assert_close(found[1], impulse * large)


Limit = tuple[Callable[[], F.Fidelity], Callable[[], F.DataTerm]]
LIMITS: dict[str, Limit] = {
    "no impulses": (lambda: F.GaussianImpulse(None, 3.0, 1e9), lambda: F.SquaredL2(weight=3.0)),
    "impulses alone": (lambda: F.GaussianImpulse(None, 1e9, 0.7), lambda: F.L1(weight=0.7)),
    "smoothing vanishes": (lambda: F.SmoothedL1(None, 0.7, 1e-9), lambda: F.L1(weight=0.7)),
    "tails vanish": (lambda: F.StudentT(None, 1e5, 2.0), lambda: F.SquaredL2(weight=2.0)),
    "photon noise alone": (
        lambda: F.GaussianPoisson(None, 1e10, 5.0, 0.1),
        lambda: F.KullbackLeibler(None, 0.1, gain=0.2),
    ),
    "read noise alone": (
        lambda: F.GaussianPoisson(None, 4.0, 1e10, 0.1),
        lambda: F.SquaredL2(weight=4.0),
    ),
    "one variance": (
        lambda: F.HeteroscedasticL2(variance=4.0, learn=()),
        lambda: F.SquaredL2(weight=0.25),
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_the_pure_models(name: str) -> None:
    mixed, pure = (build().double() for build in LIMITS[name])
    x, y = pair(2)
    assert float(mixed(x, y)) == pytest.approx(float(pure(x, y)), rel=1e-6)


def test_magnitudes_far_above_the_noise_are_gaussian() -> None:
    """Up to σ² log √(2 π t y/σ²) and the bias σ²/(2 y) of the minimiser."""
    fidelity = F.Rician(sigma=1e-4).double()
    y = torch.tensor([0.5, 1.0], dtype=DOUBLE).view(1, 1, 1, 2)
    x = y + torch.tensor([1e-3, -2e-3], dtype=DOUBLE).view(1, 1, 1, 2)
    found = fidelity.grad(x, y)
    torch.testing.assert_close(found, x - y + 1e-8 / (2 * x), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("fidelity", "noise", "scale"),
    [
        (F.Rician(sigma=0.3), bl.data.RicianNoise(0.3), 0.3**2),
        (F.Speckle(background=0.2, weight=3.0), bl.data.SpeckleNoise(3.0, 0.2), 1.0),
        (F.StudentT(scale=0.1 * 3**0.5, weight=4 / 3), bl.data.StudentTNoise(0.1, 3.0), 0.1**2),
    ],
)
def test_the_likelihood_is_greatest_at_the_truth(
    fidelity: F.Fidelity, noise: bl.data.Noise, scale: float
) -> None:
    """Of many draws the mean slope vanishes at what they were drawn from; ± 5 standard errors.

    And the mean curvature is what the slope varies by (the identity of Bartlett).
    """
    truth = torch.full((1, 1, 200, 200), 0.4, dtype=DOUBLE)
    y = noise.sample(truth, generator(0, "likelihood"))
    own = fidelity.double()
    slope = own.grad(truth, y).detach().flatten() / scale
    curvature = own.hessian(truth, y)(torch.ones_like(truth)).detach().flatten() / scale
    error = float(slope.std()) / slope.numel() ** 0.5
    assert abs(float(slope.mean())) < 5 * error
    assert float(curvature.mean()) == pytest.approx(float(slope.var()), rel=0.1)


def test_the_ratio_of_bessel_functions_and_its_slope() -> None:
    z = torch.cat([torch.linspace(0, 60, 6001, dtype=DOUBLE), torch.logspace(1, 6, 100).double()])
    ratio, slope = bessel_ratio(z)
    exact = i1e(z.numpy()) / i0e(z.numpy())
    np.testing.assert_allclose(ratio.numpy(), exact, rtol=1e-14)
    away = (z > 0.1) & (z < 40)
    formula = 1 - ratio / z - ratio.square()
    torch.testing.assert_close(slope[away], formula[away], rtol=1e-12, atol=1e-15)
    far = z > 1000
    torch.testing.assert_close(
        slope[far], 0.5 / z[far].square() + 0.25 / z[far] ** 3, rtol=1e-5, atol=0
    )
    assert bool((slope <= ratio_slope_bound(z) * (1 + 1e-12)).all())
    opposite = bessel_ratio(-z)
    assert torch.equal(opposite[0], -ratio)
    assert torch.equal(opposite[1], slope)


def test_the_constants_of_rician_noise_are_proved_by_a_grid() -> None:
    """|B''| <= STEEPEST, and |B' + z B''| <= 1/2, with the slopes that both can have.

    The derivatives of B are cumulants of cos, hence the third one is at most 2, and -B'' lies
    between 0 and 2 B'. From z = 20 on 2 B' is small; until then a step of the grid adds at most
    2 (1 + 20) times its width.
    """
    step = 1e-4
    z = torch.arange(step, 20, step, dtype=DOUBLE)
    z.requires_grad_()
    slope = bessel_ratio(z)[1]
    bend = torch.autograd.grad(slope.sum(), z)[0]
    slope, at = slope.detach(), z.detach()
    assert float(bend.abs().max()) + 2 * step**2 <= STEEPEST
    assert float((slope + at * bend).min()) - 42 * step >= -0.5
    assert float(bend.max()) <= 1e-9
    end = torch.tensor(20.0, dtype=DOUBLE)
    assert float(2 * ratio_slope_bound(end)) < STEEPEST
    assert float((1 + 2 * end) * ratio_slope_bound(end)) < 0.5


def test_weights_of_a_sum_are_learned_against_three_kinds_of_noise() -> None:
    images = bl.data.embedded_images(size=12)[:2].double()
    noise = bl.data.ImpulseNoise(0.1, sigma=0.05)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise)
    learn = ("weight",)
    mixed = (
        F.SmoothedL1(None, 0.3, 0.02, learn=learn)
        + F.SquaredL2(weight=20.0, learn=learn)
        + F.KullbackLeibler(None, 0.3, 0.1, learn=learn)
    )
    tv = bl.regularisers.TotalVariation(1.0, 0.05, learn=())
    problem = bl.BilevelProblem(bl.Variational(mixed, tv).double(), bl.losses.SquaredError(), pairs)
    assert bl.check_hypergradient(problem).passed
    fit = bl.learn(problem, bl.algorithms.LBFGS(), budget=bl.Budget(steps=3))
    assert fit.history[-1].value < 0.9 * fit.history[0].value
    first, last = problem.theta, fit.theta
    assert all(not torch.equal(first[name], last[name]) for name in first)


def test_the_loss_is_flat_along_the_redundant_factor() -> None:
    """Both weights of noise and that of the regulariser times one factor: the same image."""
    images = bl.data.embedded_images(size=12)[:2].double()
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.ImpulseNoise(0.1, 0.05))
    fidelity = F.GaussianImpulse(None, 2.0, 0.2, learn=("gaussian", "impulse"))
    energy = bl.Variational(fidelity, bl.regularisers.TotalVariation(0.3, 0.05, learn=("weight",)))
    problem = bl.BilevelProblem(energy.double(), bl.losses.SquaredError(), pairs)
    found = problem.value_and_grad(problem.theta, tol=1e-8)
    total = sum(float(value) for value in found.grad.values())
    assert abs(total) < 1e-6 * sum(float(value.abs()) for value in found.grad.values()) + 1e-9


@pytest.mark.parametrize("unit", [1e-6, 255.0, 65535.0])
@pytest.mark.parametrize(
    ("build", "name", "usual"),
    [
        (F.GaussianImpulse, "log_impulse", 0.13),
        (F.SmoothedL1, "log_smoothing", 0.01),
        (F.StudentT, "log_scale", 0.1),
        (F.Rician, "log_sigma", 0.05),
    ],
)
def test_what_is_left_open_is_in_the_unit_of_the_data(
    build: Callable[[], F.Fidelity], name: str, usual: float, unit: float
) -> None:
    """And then values and slopes are those of the plain unit, times a power of it."""
    plain, other = build().double(), build().double()
    plain.take_units(Units())
    other.take_units(Units(unit, unit**other.degree))
    assert float(other.get_parameter(name).exp().detach()) == pytest.approx(usual * unit, rel=1e-5)
    x, y = pair(3)
    factor = unit**plain.degree
    torch.testing.assert_close(other(unit * x, unit * y), factor * plain(x, y), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", [n for n in FIDELITIES if n != "sampled"])
def test_a_value_of_each_row_gives_what_rows_give_alone(name: str) -> None:
    rng = generator(4, "rows", name)
    built = FIDELITIES[name](bl.operators.Identity(), rng)
    if not isinstance(built, Pointwise):
        pytest.skip("one value for all")
    fidelity = built.double()
    x, y = torch.rand(2, 3, 1, 6, 8, generator=rng, dtype=DOUBLE)
    y = y - 0.3 if name in NEGATIVE else y
    energy = bl.Variational(fidelity, bl.regularisers.Tikhonov(0.1).double())
    known = {n: p.detach() for n, p in energy.named_parameters() if n.startswith("fidelity")}
    theta = {
        n: torch.stack([p + 0.3 * k for k in range(3)])
        for n, p in known.items()
        if n.partition(".")[2] in fidelity.broadcasts()
    }
    assert theta
    whole = by_row.with_theta(energy, theta, y)
    value, slope = whole.split(y).smooth.value_and_grad(x)
    turn = whole.split(y).smooth.hessian(x)(y)
    for k in range(3):
        own = by_row.with_theta(energy, {n: v[k] for n, v in theta.items()}, y)
        row = slice(k, k + 1)
        torch.testing.assert_close(value[row], own.forward(x[row], y[row]))
        torch.testing.assert_close(slope[row], own.grad(x[row], y[row]))
        torch.testing.assert_close(turn[row], own.hessian(x[row], y[row])(y[row]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: F.GaussianImpulse(None, -1.0), "gaussian must be positive"),
        (lambda: F.GaussianImpulse(None, 1.0, 0.0), "impulse must be positive"),
        (lambda: F.GaussianImpulse(learn=("smoothing",)), "learnable parameter"),
        (lambda: F.SmoothedL1(smoothing=-1.0), "smoothing must be positive"),
        (lambda: F.StudentT(scale=float("nan")), "scale"),
        (lambda: F.Rician(sigma=0.0), "sigma must be positive"),
        (lambda: F.Speckle(background=0.0), "background"),
        (lambda: F.Anscombe(gain=0.0), "gain"),
        (lambda: F.Anscombe(read_noise=-1.0), "read noise"),
        (lambda: F.HeteroscedasticL2(variance=torch.tensor([[1.0, -1.0]])), "variance must be pos"),
        (lambda: F.HeteroscedasticL2(variance=torch.ones(3)), "a number or a map"),
        (lambda: F.HeteroscedasticL2(learn=("map",)), "learnable parameter"),
    ],
)
def test_parameters_that_are_none_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        make()


@pytest.mark.parametrize(
    ("fidelity", "y", "said"),
    [
        (F.Rician(sigma=1.0), torch.tensor([1.0, -0.5]), "magnitudes are not negative"),
        (F.Speckle(background=0.1), torch.tensor([1.0, -0.1]), "above -background = -0.1"),
        (F.Anscombe(gain=0.1), torch.tensor([1.0, -0.5]), "lie above -background"),
        (F.HeteroscedasticL2(variance=torch.ones(2, 2)), torch.ones(2), "needs a variance"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_work(
    fidelity: F.Fidelity, y: Tensor, said: str
) -> None:
    energy = bl.Variational(fidelity, bl.regularisers.Tikhonov(1.0))
    with pytest.raises(bl.InputError, match=said):
        energy.at(y.view(1, 1, 1, -1))
