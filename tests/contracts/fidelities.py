"""What every smooth fidelity must do; inherit ``FidelityContract`` and name it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.randomness import generator
from bilevel.ground.theta import bind, learnable
from bilevel.model import Variational, space_of
from bilevel.model.describe import build, describe
from bilevel.model.fidelities import (
    Anscombe,
    Fidelity,
    GaussianImpulse,
    GaussianPoisson,
    HeteroscedasticL2,
    KullbackLeibler,
    Rician,
    SampledL2,
    SmoothedL1,
    Speckle,
    SquaredL2,
    StudentT,
)
from bilevel.model.operators import Operator
from bilevel.model.regularisers import Tikhonov
from contracts.zoo import OPERATORS, SHAPE, Random, dense_hessian, log_uniform

SEEDS = range(3)


def squared(a: Operator, rng: Random) -> Fidelity:
    return SquaredL2(a, log_uniform(rng, -0.5, 0.5), learn=("weight",))


def divergence(a: Operator, rng: Random) -> Fidelity:
    background, weight = log_uniform(rng, -1.5, 0), log_uniform(rng, -0.5, 0.5)
    return KullbackLeibler(a, background, weight, learn=("weight",))


def squared_with_weights(a: Operator, rng: Random) -> Fidelity:
    """Every datum has its own weight, one in four has none."""
    shape = a.data_shape(SHAPE)
    weights = 3 * torch.rand(shape, generator=rng) * (torch.rand(shape, generator=rng) > 0.25)
    return SquaredL2(a, log_uniform(rng, -0.5, 0.5), weights, learn=("weight",))


def divergence_of_photons(a: Operator, rng: Random) -> Fidelity:
    background, gain = log_uniform(rng, -1.5, 0), log_uniform(rng, -1, 1)
    return KullbackLeibler(a, background, 0.7, gain, learn=("weight",))


def gaussian_poisson(a: Operator, rng: Random) -> Fidelity:
    gaussian, poisson = log_uniform(rng, -1, 2.5), log_uniform(rng, -1, 1.5)
    background, weight = log_uniform(rng, -1.5, 0), log_uniform(rng, -0.5, 0.5)
    learn = ("weight", "gaussian", "poisson")
    return GaussianPoisson(a, gaussian, poisson, background, weight, learn=learn)


def sampled(a: Operator, rng: Random) -> Fidelity:
    """Weights of columns, of rows or of single data in turn, one of them kept."""
    _, h, w = a.data_shape(SHAPE)
    size = [(1, w), (h, 1), (h, w)][int(torch.randint(3, (), generator=rng))]
    mask = torch.rand(size, generator=rng)
    kept = torch.zeros(size, dtype=torch.bool)
    kept[0, 0] = True
    budget, weight = 1 + 0.4 * (kept.numel() - 1), log_uniform(rng, -0.5, 0.5)
    learn = ("weight", "mask") if kept.numel() > 1 else ("weight",)
    return SampledL2(a, mask, kept, budget, weight, learn=learn)


def gaussian_impulse(a: Operator, rng: Random) -> Fidelity:
    gaussian, impulse = log_uniform(rng, -0.5, 0.5), log_uniform(rng, -1, 0)
    learn = ("weight", "gaussian", "impulse")
    return GaussianImpulse(a, gaussian, impulse, log_uniform(rng, -0.5, 0.5), learn=learn)


def smoothed_absolute(a: Operator, rng: Random) -> Fidelity:
    weight, smoothing = log_uniform(rng, -0.5, 0.5), log_uniform(rng, -2, 0)
    return SmoothedL1(a, weight, smoothing, learn=("weight", "smoothing"))


def student_t(a: Operator, rng: Random) -> Fidelity:
    scale, weight = log_uniform(rng, -1.5, 0), log_uniform(rng, -0.5, 0.5)
    return StudentT(a, scale, weight, learn=("weight", "scale"))


def rician(a: Operator, rng: Random) -> Fidelity:
    sigma, weight = log_uniform(rng, -1.5, 0.5), log_uniform(rng, -0.5, 0.5)
    return Rician(a, sigma, weight, learn=("weight", "sigma"))


def speckle(a: Operator, rng: Random) -> Fidelity:
    background, looks = log_uniform(rng, -1.5, 0), log_uniform(rng, -0.5, 0.5)
    return Speckle(a, background, looks, learn=("weight",))


def anscombe(a: Operator, rng: Random) -> Fidelity:
    gain, read_noise = log_uniform(rng, -1.5, 0), log_uniform(rng, -1.5, 0)
    return Anscombe(a, gain, read_noise, log_uniform(rng, -0.5, 0.5), learn=("weight",))


def heteroscedastic(a: Operator, rng: Random) -> Fidelity:
    """A number, a map for all channels, or one for each, in turn."""
    shape = a.data_shape(SHAPE)
    shapes = [(), shape[1:], shape]
    variance = torch.rand(shapes[int(torch.randint(3, (), generator=rng))], generator=rng)
    weight = log_uniform(rng, -0.5, 0.5)
    return HeteroscedasticL2(a, 2 * variance + 0.1, weight, learn=("weight", "variance"))


FIDELITIES: dict[str, Callable[[Operator, Random], Fidelity]] = {
    "squared L2": squared,
    "Kullback-Leibler": divergence,
    "squared L2 with weights": squared_with_weights,
    "Kullback-Leibler with gain": divergence_of_photons,
    "Gaussian-Poisson": gaussian_poisson,
    "sampled": sampled,
    "Gaussian-impulse": gaussian_impulse,
    "smoothed L1": smoothed_absolute,
    "Student's t": student_t,
    "Rician": rician,
    "speckle": speckle,
    "Anscombe": anscombe,
    "heteroscedastic": heteroscedastic,
}
NEGATIVE = (
    "squared L2 with weights",
    "Gaussian-Poisson",
    "Gaussian-impulse",
    "smoothed L1",
    "Student's t",
    "heteroscedastic",
)
"""Whose data may be negative."""
KINKED = {"Gaussian-impulse"}
"""Whose second derivatives jump."""
MAJORISED = {"Student's t", "Rician"}
"""Not convex: stencils are those of a majoriser."""
WITHOUT_STENCILS = {"sampled", "speckle", "coils", "centred coils"}


class FidelityContract:
    names: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize("name", self.names)

    @staticmethod
    def make(name: str, seed: int) -> tuple[Fidelity, Tensor, Tensor, Random]:
        """Any operator in turn; images that are negative here and there, data zero or negative."""
        rng = generator(seed, "fidelity", name)
        operator = list(OPERATORS.values())[seed % len(OPERATORS)](rng)
        fidelity = FIDELITIES[name](operator, rng).double()
        x = 1.5 * torch.rand(3, *SHAPE, generator=rng, dtype=torch.float64) - 0.3
        y = torch.rand(fidelity.operator(x).shape, generator=rng, dtype=torch.float64)
        data = y - 0.3 if name in NEGATIVE else (y - 0.2).clamp_min(0.0)
        return fidelity, x.detach(), data, rng

    @pytest.mark.parametrize("seed", range(len(OPERATORS)))
    def test_gradient_is_that_of_the_value(self, name: str, seed: int) -> None:
        fidelity, x, y, _ = self.make(name, seed)
        point = x.clone().requires_grad_()
        expected = torch.autograd.grad(fidelity(point, y).sum(), point)[0]
        torch.testing.assert_close(fidelity.grad(x, y), expected, rtol=1e-9, atol=1e-11)
        value, slope = fidelity.value_and_grad(x, y)
        torch.testing.assert_close(value, fidelity(x, y))
        torch.testing.assert_close(slope, expected)

    @pytest.mark.parametrize("seed", range(len(OPERATORS)))
    def test_hessian_is_that_of_the_value_within_the_bounds(self, name: str, seed: int) -> None:
        fidelity, x, y, _ = self.make(name, seed)
        pixels, shape = x[0].numel(), tuple(x.shape[1:])
        basis = torch.eye(pixels, dtype=x.dtype).reshape(pixels, *shape)
        energy = Variational(fidelity, Tikhonov(1e-8).double())
        bounds = fidelity.bounds(shape, y).for_rows(y)
        for k in range(len(x)):
            hessian = fidelity.hessian(*(part[[k] * pixels] for part in (x, y)))
            matrix = hessian(basis).flatten(1).detach()
            exact = dense_hessian(energy, x[k : k + 1], y[k : k + 1])
            torch.testing.assert_close(matrix, exact, rtol=1e-6, atol=1e-7)
            eigenvalues = torch.linalg.eigvalsh(matrix)
            assert float(eigenvalues[0]) >= float(bounds.mu[k]) - 1e-10
            assert float(eigenvalues[-1]) <= float(bounds.lipschitz[k]) + 1e-10
        hessian, index = fidelity.hessian(x, y), torch.tensor([2, 0])
        torch.testing.assert_close(hessian.rows(index)(x[index]), hessian(x)[index])

    def test_stencils_have_the_diagonal_of_the_hessian(self, name: str) -> None:
        given = 0
        for seed in range(len(OPERATORS)):
            fidelity, x, y, _ = self.make(name, seed)
            x, y, pixels = x[:1], y[:1], x[0].numel()
            basis = torch.eye(pixels, dtype=torch.float64).reshape(pixels, *x.shape[1:])
            stencils = fidelity.stencils(x, y)
            for stencil in stencils or ():
                given += 1
                whole = fidelity.majoriser if name in MAJORISED else fidelity.hessian
                hessian = whole(*(part.expand(pixels, -1, -1, -1) for part in (x, y)))
                assert hessian is not None
                exact = hessian(basis).flatten(1).diagonal().view(x.shape[1:])
                inner = (..., slice(2, -2), slice(2, -2))
                found = stencil.diagonal(x.shape)[0]
                torch.testing.assert_close(found[inner], exact[inner].detach())
        assert given == 0 if name in WITHOUT_STENCILS else given >= 3

    def test_a_batch_gives_what_its_rows_give(self, name: str) -> None:
        fidelity, x, y, _ = self.make(name, 0)
        shape = tuple(x.shape[1:])
        alone = torch.cat([fidelity.grad(x[k : k + 1], y[k : k + 1]) for k in range(3)])
        torch.testing.assert_close(fidelity.grad(x, y), alone, rtol=1e-13, atol=1e-14)
        lone = torch.cat(
            [fidelity.bounds(shape, y[k : k + 1]).for_rows(y[:1]).lipschitz for k in range(3)]
        )
        torch.testing.assert_close(fidelity.bounds(shape, y).for_rows(y).lipschitz, lone)
        starts = torch.cat([fidelity.start(y[k : k + 1]) for k in range(3)])
        torch.testing.assert_close(fidelity.start(y), starts)

    @pytest.mark.parametrize("seed", range(len(OPERATORS)))
    def test_variation_bounds_every_change_in_the_ball(self, name: str, seed: int) -> None:
        fidelity, x, y, rng = self.make(name, seed)
        q = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        radius = 10 ** (1 - 5 * torch.rand(3, generator=rng, dtype=x.dtype))
        bound = fidelity.variation(x, y, q, radius)
        for other in self.others(fidelity, x, y, q, radius, rng):
            turn = fidelity.hessian(other, y)(q) - fidelity.hessian(x, y)(q)
            assert bool((rows.norm(turn) <= bound.hessian * (1 + 1e-9) + 1e-12).all())
            here, there = (self.cross(fidelity, point, y) for point in (x, other))
            change = torch.einsum("bpn,bn->bp", there - here, q.flatten(1)).norm(dim=1)
            size = torch.linalg.matrix_norm(there, 2)
            assert bool((change <= bound.cross * (1 + 1e-6) + 1e-9).all())
            assert bool((size <= bound.cross_norm * (1 + 1e-6) + 1e-9).all())

    @pytest.mark.parametrize("seed", range(len(OPERATORS)))
    def test_smoothness_bounds_the_change_of_the_hessian(self, name: str, seed: int) -> None:
        fidelity, x, y, rng = self.make(name, seed)
        radius = 10 ** (-4 * torch.rand(3, generator=rng, dtype=x.dtype))
        found = fidelity.smoothness(x, y, radius)
        assert bool((fidelity.smoothness(x, y, radius / 10).kinks <= found.kinks).all())
        assert bool((found.lipschitz.isfinite() == (found.kinks == 0)).all())
        assert name in KINKED or bool((found.kinks == 0).all())
        v = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        for other in self.others(fidelity, x, y, v, radius, rng):
            for unit in (v, other - x):
                turn = fidelity.hessian(other, y)(unit) - fidelity.hessian(x, y)(unit)
                most = (found.lipschitz * radius * rows.norm(unit)).nan_to_num(torch.inf)
                assert bool((rows.norm(turn) <= most * (1 + 1e-9) + 1e-12).all())

    @pytest.mark.parametrize("seed", range(len(OPERATORS)))
    def test_majoriser_lies_above(self, name: str, seed: int) -> None:
        fidelity, x, y, rng = self.make(name, seed)
        found = fidelity.majoriser(x, y)
        if found is None:
            pytest.skip("declares none")
        value, slope = fidelity.value_and_grad(x, y)
        for size in (1e-3, 0.1, 3.0):
            d = size * torch.randn(x.shape, generator=rng, dtype=x.dtype)
            bend = rows.inner(d, found(d))
            above = value + rows.inner(slope, d) + bend / 2
            assert bool((bend >= 0).all())
            assert bool((fidelity(x + d, y) <= above + 1e-12 * above.abs() + 1e-12).all())
        index = torch.tensor([2, 0])
        torch.testing.assert_close(found.rows(index)(d[index]), found(d)[index])

    @pytest.mark.parametrize("seed", range(len(OPERATORS)))
    def test_magnitude_exceeds_the_gradient(self, name: str, seed: int) -> None:
        fidelity, x, y, _ = self.make(name, seed)
        found = fidelity.magnitude(tuple(x.shape[1:]), y)
        for size in (0.0, 1.0, -1.0, 100.0, -100.0):
            slope = rows.norm(fidelity.grad(size * x, y))
            assert bool((slope <= found.slope * rows.norm(size * x) + found.offset).all())

    def test_described_and_built_again(self, name: str) -> None:
        fidelity, x, y, _ = self.make(name, 1)
        twin = build(*describe(fidelity))
        assert torch.equal(twin(x, y), fidelity(x, y))
        assert learnable(twin).keys() == learnable(fidelity).keys()
        theta = learnable(fidelity)
        torch.testing.assert_close(space_of(fidelity).project(theta), theta)
        assert describe(bind(fidelity, theta))[0] == describe(fidelity)[0]

    @staticmethod
    def others(fidelity, x, y, q, radius, rng):
        """On the sphere: random directions and those that matter."""
        pixel = torch.zeros_like(x)
        pixel[..., 2, 3] = -1
        random = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        for shift in (random, q, fidelity.grad(x, y).detach() + 1e-300, pixel, -torch.ones_like(x)):
            yield x + rows.expand(radius / rows.norm(shift), x) * shift

    @staticmethod
    def cross(fidelity, x, y):
        """∂∇Ψ/∂θ by differences, (b, numbers, pixels), for each learnable number."""
        step, found = 1e-6, []
        for name, value in learnable(fidelity).items():
            for unit in torch.eye(value.numel(), dtype=value.dtype).view(-1, *value.shape):
                ends = [bind(fidelity, {name: value + s * step * unit}).grad(x, y) for s in (1, -1)]
                found.append(((ends[0] - ends[1]) / (2 * step)).detach().flatten(1))
        return torch.stack(found, 1)
