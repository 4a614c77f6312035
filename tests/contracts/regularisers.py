"""What every regulariser must do; inherit ``RegulariserContract`` and name it."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import ClassVar

import pytest
import torch

from bilevel.ground import rows
from bilevel.ground.randomness import generator
from bilevel.ground.theta import bind, learnable
from bilevel.model import space_of
from bilevel.model.describe import build, describe
from bilevel.model.operators import Downsampling, Shape
from bilevel.model.regularisers import (
    Composed,
    InfimalConvolutionTV,
    MultiScale,
    Regulariser,
    TotalGeneralisedVariation,
)
from contracts.networks import NETWORKS
from contracts.states import InfimalConvolution
from contracts.zoo import (
    REGULARISERS,
    SHAPE,
    Random,
    directional,
    directional_maps,
    foe,
    foe_rbf,
    foe_spline,
    grouped,
    log_uniform,
    ridge_filters,
    spline_ridge,
    tv,
    tv_map,
    wavelets,
)

SEEDS = range(3)
CHANNELS = (2, *SHAPE[1:])
"""A state twice as wide as its image, or a complex image as two real ones."""

FURTHER: dict[str, Callable[[Random], Regulariser]] = {
    "infimal convolution": lambda rng: InfimalConvolution(log_uniform(rng, -1, 0), ridge=0.1),
    "tv coupled": lambda rng: tv(rng, coupled=True),
    "tv coupled huber": lambda rng: tv(rng, coupled=True, potential="huber"),
    "tv coupled map": lambda rng: tv_map(rng, "charbonnier", coupled=True),
    "directional of p = 1": lambda rng: directional(rng, 1.0),
    "directional of p = 2": lambda rng: directional(rng, 2.0),
    "directional of p = 0.3": lambda rng: directional(rng, 0.3),
    "directional, isotropic": lambda rng: directional(rng, 1.4, anisotropy=1.0),
    "directional map of exponents": lambda rng: directional_maps(
        rng, 0.5, 1.5, SHAPE[1:], learn=("weight", "exponent")
    ),
    "directional spline": lambda rng: directional_maps(
        rng, 0.5, 1.0, (4, 4), grid=(4, 4), between="spline", learn=("direction",)
    ),
    "foe coupled": lambda rng: foe(rng, "charbonnier", coupled=True),
    "foe coupled huber": lambda rng: foe(rng, "huber", coupled=True),
    "foe coupled student-t": lambda rng: foe(rng, "student-t", coupled=True),
    **NETWORKS,
    "foe coupled splines": lambda rng: foe_spline(rng, 3, coupled=True),
    "foe coupled radial basis": lambda rng: foe_rbf(rng, coupled=True),
    "foe coupled root": lambda rng: foe(rng, "power", coupled=True),
    "foe coupled power": lambda rng: foe(rng, "power", exponent=1.5, coupled=True),
    **{f"groups of {size}": lambda rng, size=size: grouped(rng, size, 2) for size in (1, 2, 3, 5)},
    "multi-scale infimal convolution": lambda rng: MultiScale(
        InfimalConvolution(log_uniform(rng, -1, 0), ridge=0.1), 1
    ),
    "multi-scale coupled huber": lambda rng: MultiScale(
        tv(rng, coupled=True, potential="huber"), 1, 2.0
    ),
    "foe of fewer pixels": lambda rng: Composed(foe(rng, "huber", coupled=True), Downsampling(2)),
    "wavelets coupled": lambda rng: wavelets(rng, wavelet="symlet-4", coupled=True),
    "wavelets decimated": lambda rng: wavelets(rng, decimated=True, potential="huber"),
    "wavelets of two levels": lambda rng: wavelets(
        rng, 2, wavelet="daubechies-2", potential="student-t"
    ),
    "foe coupled square": lambda rng: foe(rng, "power", exponent=2.0, coupled=True),
}
"""Of ``CHANNELS``; all others of the zoo's images."""

LEARNED: dict[str, Callable[[Random], Regulariser]] = {
    "foe splines": lambda rng: foe_spline(rng, 3, even=True),
    "foe radial bases": lambda rng: foe_rbf(rng, 3),
    "ridge filters": lambda rng: ridge_filters(rng, False),
    "spline ridge": lambda rng: spline_ridge(rng, False),
}
"""Whose like are in the zoo; by themselves alone."""


def second_order(kind: type[Regulariser], **options: object) -> Callable[[Random], Regulariser]:
    def make(rng: Random) -> Regulariser:
        numbers = [log_uniform(rng, *ends) for ends in ((-2, 0), (-1, 1), (-1.5, 0))]
        return kind(*numbers, **options)  # type: ignore[arg-type]

    return make


STATES: dict[str, tuple[Callable[[Random], Regulariser], Shape]] = {
    f"{name}{', '.join(['', *words])}": (
        second_order(kind, potential=potential, coupled=coupled),
        (wide * (1 + coupled), *SHAPE[1:]),
    )
    for name, kind, wide in (
        ("tgv", TotalGeneralisedVariation, 3),
        ("ictv", InfimalConvolutionTV, 2),
    )
    for words, potential, coupled in (
        ((), "huber", False),
        (("two channels",), "charbonnier", True),
    )
}
"""With the shapes of their states, of one image channel or of two together."""


def shape_of(name: str) -> Shape:
    if name in STATES:
        return STATES[name][1]
    return CHANNELS if name in FURTHER else SHAPE


def made(name: str, rng: Random) -> Regulariser:
    return (
        STATES[name][0](rng)
        if name in STATES
        else {**REGULARISERS, **FURTHER, **LEARNED}[name](rng)
    )


def units(name: str) -> torch.Tensor:
    """All unit images."""
    shape = shape_of(name)
    return torch.eye(prod(shape), dtype=torch.float64).reshape(-1, *shape)


class RegulariserContract:
    names: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize("name", self.names)

    @staticmethod
    def make(name: str, seed: int = 0):
        rng = generator(seed, "contract", name)
        regulariser = made(name, rng).double()
        x = torch.rand(3, *shape_of(name), generator=rng, dtype=torch.float64)
        return regulariser, x, rng

    def test_gradient_is_that_of_the_value(self, name: str) -> None:
        for seed in SEEDS:
            regulariser, x, _ = self.make(name, seed)
            point = x.clone().requires_grad_()
            expected = torch.autograd.grad(regulariser(point).sum(), point)[0]
            torch.testing.assert_close(regulariser.grad(x), expected, rtol=1e-9, atol=1e-11)

    def test_hessian_is_that_of_the_gradient(self, name: str) -> None:
        for seed in SEEDS:
            regulariser, x, rng = self.make(name, seed)
            hessian = regulariser.hessian(x)
            v = torch.randn(x.shape, generator=rng, dtype=x.dtype)
            step = 1e-7
            difference = (regulariser.grad(x + step * v) - regulariser.grad(x - step * v)) / (
                2 * step
            )
            torch.testing.assert_close(hessian(v), difference, rtol=1e-5, atol=1e-6)
            index = torch.tensor([2, 0])
            torch.testing.assert_close(hessian.rows(index)(v[index]), hessian(v)[index])

    def test_eigenvalues_lie_within_the_bounds(self, name: str) -> None:
        for seed in SEEDS:
            regulariser, x, _ = self.make(name, seed)
            basis = units(name)
            bounds = regulariser.bounds(shape_of(name))
            for flat in (x[:1], torch.zeros_like(x[:1]), 1e-3 * x[:1]):
                matrix = regulariser.hessian(flat.expand_as(basis))(basis).flatten(1).detach()
                torch.testing.assert_close(matrix, matrix.T)
                eigenvalues = torch.linalg.eigvalsh(matrix)
                assert float(eigenvalues[0]) >= float(bounds.mu) - 1e-10
                assert float(eigenvalues[-1]) <= float(bounds.lipschitz) + 1e-10
            spectrum = regulariser.spectrum(shape_of(name))
            if spectrum is not None:
                ordered = spectrum.flatten().sort().values
                torch.testing.assert_close(ordered, eigenvalues, rtol=1e-9, atol=1e-10)

    def test_a_batch_gives_what_its_rows_give(self, name: str) -> None:
        regulariser, x, _ = self.make(name)
        alone = torch.cat([regulariser.grad(row[None]) for row in x])
        torch.testing.assert_close(regulariser.grad(x), alone, rtol=1e-13, atol=1e-14)

    def test_variation_bounds_every_change_in_the_ball(self, name: str) -> None:
        for seed in range(12):
            regulariser, x, rng = self.make(name, seed)
            q = torch.randn(x.shape, generator=rng, dtype=x.dtype)
            radius = 10 ** (-4 * torch.rand(3, generator=rng, dtype=x.dtype))
            bound = regulariser.variation(x, q, radius)
            if bool(torch.cat([bound.hessian, bound.cross, bound.cross_norm]).isinf().all()):
                pytest.skip("claims nothing")
            here = self.cross(regulariser, x)
            for shift in self.shifts(regulariser, x, q, rng):
                other = x + rows.expand(radius, x) * shift / rows.expand(rows.norm(shift), x)
                turn = regulariser.hessian(other)(q) - regulariser.hessian(x)(q)
                assert bool((rows.norm(turn) <= bound.hessian * (1 + 1e-9) + 1e-12).all())
                there = self.cross(regulariser, other)
                if here is None or there is None:
                    continue
                change = torch.einsum("bpn,bn->bp", there - here, q.flatten(1))
                assert bool((change.norm(dim=1) <= bound.cross * (1 + 1e-6) + 1e-9).all())
                norm = torch.linalg.matrix_norm(there, 2)
                assert bool((norm <= bound.cross_norm * (1 + 1e-6) + 1e-9).all())

    def test_smoothness_bounds_the_hessian_and_the_kinks_in_the_ball(self, name: str) -> None:
        basis = units(name)

        def dense(x: torch.Tensor) -> torch.Tensor:
            return regulariser.hessian(x.expand_as(basis))(basis).flatten(1).detach()

        for seed in range(6):
            regulariser, x, rng = self.make(name, seed)
            x = x[:1]
            radius = 10 ** (-1 - 4 * torch.rand(1, generator=rng, dtype=x.dtype))
            found = regulariser.smoothness(x, radius)
            assert bool((regulariser.smoothness(x, radius / 10).kinks <= found.kinks).all())
            if not bool(found.lipschitz.isfinite()):
                assert float(found.kinks) > 0
                continue
            for shift in self.shifts(regulariser, x, torch.randn_like(x), rng):
                move = rows.expand(radius / rows.norm(shift), x) * shift
                turn = torch.linalg.matrix_norm(dense(x + move) - dense(x), 2)
                assert float(turn) <= float(found.lipschitz * radius) * (1 + 1e-9) + 1e-12

    def test_majoriser_lies_above(self, name: str) -> None:
        for seed in SEEDS:
            regulariser, x, rng = self.make(name, seed)
            found = regulariser.majoriser(x)
            if found is None:
                pytest.skip("declares none")
            quadratic, value, slope = found, regulariser(x), regulariser.grad(x)
            for size in (1e-3, 0.1, 3.0):
                d = size * torch.randn(x.shape, generator=rng, dtype=x.dtype)
                bend = rows.inner(d, quadratic(d))
                above = value + rows.inner(slope, d) + bend / 2
                assert bool((bend >= 0).all())
                assert bool((regulariser(x + d) <= above * (1 + 1e-12) + 1e-12).all())
            index = torch.tensor([2, 0])
            torch.testing.assert_close(quadratic.rows(index)(d[index]), quadratic(d)[index])

    @staticmethod
    def shifts(regulariser, x, q, rng):
        """Random, smooth, and along the directions that matter: q, the gradient, one pixel."""
        yield torch.randn(x.shape, generator=rng, dtype=x.dtype)
        yield q
        yield regulariser.grad(x).detach() + 1e-300
        pixel = torch.zeros_like(x)
        pixel[..., 2, 3] = 1
        yield pixel
        yield x - x.mean()

    @staticmethod
    def cross(regulariser, x):
        """(∂_θ ∇R)ᵀ as a matrix (b, parameters, pixels), by forward differences of dual numbers."""
        theta = learnable(regulariser)
        if not theta:
            return None
        columns = []
        for name, value in theta.items():
            for entry in range(value.numel()):
                direction = torch.zeros_like(value)
                direction.view(-1)[entry] = 1
                step = 1e-6
                ends = [
                    bind(regulariser, {**theta, name: value + sign * step * direction}).grad(x)
                    for sign in (1, -1)
                ]
                columns.append(((ends[0] - ends[1]) / (2 * step)).detach().flatten(1))
        return torch.stack(columns, dim=1)

    def test_described_and_built_again(self, name: str) -> None:
        regulariser, x, _ = self.make(name)
        twin = build(*describe(regulariser))
        assert torch.equal(twin(x), regulariser(x))
        assert learnable(twin).keys() == learnable(regulariser).keys()

    def test_parameters_lie_in_their_sets(self, name: str) -> None:
        regulariser, _, _ = self.make(name)
        theta = learnable(regulariser)
        projected = space_of(regulariser).project(theta)
        for key, value in theta.items():
            torch.testing.assert_close(projected[key], value)
