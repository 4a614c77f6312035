"""Every operator x regulariser on small images, with random parameters; dense references."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.randomness import generator
from bilevel.model import Variational
from bilevel.model.energy import Energy
from bilevel.model.fidelities import Fidelity, SquaredL2
from bilevel.model.operators import (
    Convolution,
    Downsampling,
    FourierMask,
    Identity,
    Mask,
    Matrix,
    Operator,
)
from bilevel.model.regularisers import (
    DirectionalTV,
    FieldsOfExperts,
    GroupedExperts,
    LearnedPotential,
    LinearSpline,
    MultiScale,
    RadialBasis,
    Regulariser,
    Rescaled,
    RidgeRegulariser,
    SplineRidge,
    Tikhonov,
    TotalVariation,
    WaveletSparsity,
)

SHAPE = (1, 6, 8)
PIXELS = 48
Random = torch.Generator


def uniform(rng: Random, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def log_uniform(rng: Random, low: float, high: float) -> float:
    return 10 ** uniform(rng, low, high)


def normal(rng: Random, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng)


def kernel(rng: Random, rows: int, columns: int) -> Tensor:
    weights = torch.rand(rows, columns, generator=rng)
    return weights / weights.sum()


OPERATORS: dict[str, Callable[[Random], Operator]] = {
    "identity": lambda rng: Identity(),
    "circular": lambda rng: Convolution(kernel(rng, 3, 3), boundary="circular"),
    "zero": lambda rng: Convolution(kernel(rng, 3, 5), boundary="zero"),
    "reflecting": lambda rng: Convolution(kernel(rng, 5, 3), boundary="reflecting"),
    "mask": lambda rng: Mask(torch.rand(SHAPE[1:], generator=rng) > 0.4),
    "fourier": lambda rng: FourierMask(torch.rand(SHAPE[1:], generator=rng) > 0.4),
    "downsampling": lambda rng: Downsampling(2),
    "matrix": lambda rng: Matrix(normal(rng, 20, PIXELS) / 7, SHAPE),
    "composition": lambda rng: Downsampling(2) @ Convolution(kernel(rng, 3, 3)),
}


def tv(rng: Random, **options: object) -> TotalVariation:
    weight, smoothing = log_uniform(rng, -2, 0), log_uniform(rng, -1.5, 0)
    return TotalVariation(weight, smoothing, **options)  # type: ignore[arg-type]


def tv_map(rng: Random, potential: str, **options: object) -> TotalVariation:
    weight = 0.2 * torch.rand(SHAPE[1:], generator=rng) + 0.01
    smoothing = log_uniform(rng, -1.5, 0)
    return TotalVariation(weight, smoothing, potential=potential, **options)  # type: ignore[arg-type]


def tv_grid(rng: Random, between: str, knots: tuple[int, int], **options: object) -> TotalVariation:
    weight = 0.2 * torch.rand(knots, generator=rng) + 0.01
    smoothing = log_uniform(rng, -1.5, 0)
    return TotalVariation(weight, smoothing, grid=knots, between=between, **options)  # type: ignore[arg-type]


def foe(
    rng: Random,
    potential: str | LearnedPotential,
    size: tuple[int, int] = (3, 3),
    **options: object,
) -> FieldsOfExperts:
    everything = ("filters", "weight", "smoothing")
    weight = 0.1 * torch.rand(3, generator=rng) + 0.01
    filters, smoothing = normal(rng, 3, 1, *size) / 2, log_uniform(rng, -1, 0)
    return FieldsOfExperts(
        filters,
        weight,
        smoothing,
        potential=potential,  # type: ignore[arg-type]
        learn=everything,
        **options,  # type: ignore[arg-type]
    )


def ridge(rng: Random, weakly_convex: bool) -> RidgeRegulariser:
    banks = [normal(rng, 2, 1, 3, 3) / 3, normal(rng, 3, 2, 3, 5) / 4]
    scaling = 10 * torch.rand(3, generator=rng) + 1
    weight, sharpness = log_uniform(rng, -1.5, 0), log_uniform(rng, 0.3, 1)
    learn = ("weight", "sharpness", "scaling")
    return RidgeRegulariser(
        banks, weight, sharpness, scaling, weakly_convex=weakly_convex, learn=learn
    )


def rescaled(rng: Random, inner: Regulariser) -> Rescaled:
    return Rescaled(inner, log_uniform(rng, -0.5, 0.5), log_uniform(rng, -0.5, 0.5))


def knots(rng: Random) -> Tensor:
    """Not even."""
    return 0.2 + 0.3 * torch.rand(3, generator=rng).cumsum(0)


def foe_spline(rng: Random, *each: int, even: bool = False, **options: object) -> FieldsOfExperts:
    slopes = 2 * torch.rand(*each, 3, generator=rng) - 1
    places = torch.linspace(0.0, 1.5, 4)[1:] if even else knots(rng)
    spline = LinearSpline(places, slopes, slope_min=-1.0, slope_max=1.0)
    return foe(rng, spline, **options)


def foe_rbf(rng: Random, *each: int, **options: object) -> FieldsOfExperts:
    basis = RadialBasis(normal(rng, *each, 3), reach=2.0, width=uniform(rng, 0.3, 1.0))
    return foe(rng, basis, **options)


def small_cascade(rng: Random) -> list[Tensor]:
    """Few filters, so that all of them can be moved one by one."""
    return [normal(rng, 2, 1, 1, 3) / 2, normal(rng, 2, 2, 3, 1) / 2]


def ridge_filters(rng: Random, weakly_convex: bool) -> RidgeRegulariser:
    weight, sharpness = log_uniform(rng, -1.5, 0), log_uniform(rng, 0.3, 1)
    scaling = uniform(rng, 1.0, 10.0)
    return RidgeRegulariser(
        small_cascade(rng), weight, sharpness, scaling, weakly_convex=weakly_convex
    )


def spline_ridge(rng: Random, weakly_convex: bool, **options: object) -> SplineRidge:
    """Slopes at random, reached by features of all sizes; everything is learned."""
    least = -1.0 if weakly_convex else 0.0
    slopes = least + 4 * torch.rand(4, generator=rng)
    weight, banks = log_uniform(rng, -1.5, 0), small_cascade(rng)
    places = (3,) if "noise_level" in options else ()
    scaling = 3 * torch.rand(2, *places, generator=rng) + 1
    return SplineRidge(
        banks,
        weight,
        scaling,
        slopes,
        weakly_convex=weakly_convex,
        **options,  # type: ignore[arg-type]
    )


def noisy_ridge(rng: Random) -> SplineRidge:
    level = uniform(rng, 0.2, 1.0)
    return spline_ridge(rng, True, noise_level=level, noise_range=1.0)


def grouped(rng: Random, group: int, channels: int = 1) -> GroupedExperts:
    """Two groups, scales such that faces are met; mixing, whose entries are many, fixed in large
    ones."""
    count = 2 * group
    banks = [normal(rng, 3, channels, 3, 3) / 3, normal(rng, count, 3, 3, 1) / 2]
    mixing = torch.rand(2, group, group, generator=rng) - 0.5
    mixing = mixing / mixing.abs().sum(-1, keepdim=True).clamp_min(1.0)
    scale = 0.1 * torch.rand(2, generator=rng) + 0.02
    bluntness = 1 + 3 * torch.rand(2, generator=rng)
    learn = ("weight", "scale", "bluntness", "mixing")[: 4 if group < 4 else 3]
    weight = log_uniform(rng, -1, 0)
    return GroupedExperts(
        banks, weight, scale, bluntness, mixing, group=group, norm=2.0, learn=learn
    )


def wavelets(rng: Random, levels: int = 1, **options: object) -> WaveletSparsity:
    weight = 0.2 * torch.rand(3 * levels, generator=rng) + 0.01
    smoothing, learn = log_uniform(rng, -1.5, 0), ("weight", "smoothing")
    return WaveletSparsity(weight, smoothing, levels=levels, learn=learn, **options)  # type: ignore[arg-type]


def directional(rng: Random, exponent: float | Tensor, **options: object) -> DirectionalTV:
    """Anisotropic, with everything learned unless told otherwise."""
    given: dict[str, object] = {
        "angle": uniform(rng, -90, 90),
        "anisotropy": log_uniform(rng, 0, 1),
        "scale": log_uniform(rng, -1, 0),
        "learn": ("weight", "smoothing", "exponent", "direction", "gain"),
    }
    weight, smoothing = log_uniform(rng, -2, 0), log_uniform(rng, -1.5, 0)
    found = DirectionalTV(weight, smoothing, exponent, **{**given, **options})  # type: ignore[arg-type]
    with torch.no_grad():
        found.log_gain.add_(0.3 * torch.randn(found.log_gain.shape, generator=rng))
    return found


def directional_maps(
    rng: Random, low: float, high: float, size: tuple[int, int], **options: object
) -> DirectionalTV:
    """Exponents from low to high, angles and anisotropies, from place to place."""

    def field(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(size, generator=rng)

    maps = {"angle": field(-90, 90), "anisotropy": field(1, 10)}
    return directional(rng, field(low, high), **maps, **options)


REGULARISERS: dict[str, Callable[[Random], Regulariser]] = {
    "tikhonov": lambda rng: Tikhonov(log_uniform(rng, -2, 0)),
    "tv charbonnier": tv,
    "tv huber": lambda rng: tv(rng, potential="huber"),
    "tv anisotropic": lambda rng: tv(rng, isotropic=False),
    "tv anisotropic huber": lambda rng: tv(rng, isotropic=False, potential="huber"),
    "tv map": lambda rng: tv_map(rng, "charbonnier"),
    "tv map huber": lambda rng: tv_map(rng, "huber"),
    "tv grid": lambda rng: tv_grid(rng, "bilinear", (2, 3)),
    "tv spline huber": lambda rng: tv_grid(rng, "spline", (4, 5), potential="huber"),
    "tv patches": lambda rng: tv_grid(rng, "patch", (2, 2), isotropic=False),
    "foe huber": lambda rng: foe(rng, "huber"),
    "foe valid": lambda rng: foe(rng, "huber", (3, 2), boundary="valid"),
    "foe even": lambda rng: foe(rng, "huber", (4, 2)),
    "foe charbonnier": lambda rng: foe(rng, "charbonnier"),
    "foe log-cosh": lambda rng: foe(rng, "log-cosh"),
    "foe student-t": lambda rng: foe(rng, "student-t"),
    "foe spline": foe_spline,
    "foe radial basis": foe_rbf,
    "foe root": lambda rng: foe(rng, "power"),
    "directional": lambda rng: directional_maps(rng, 1.0, 1.9, (2, 3), grid=(2, 3)),
    "directional concave": lambda rng: directional(rng, 0.6),
    "ridge": lambda rng: ridge(rng, False),
    "ridge weakly convex": lambda rng: ridge(rng, True),
    "rescaled ridge": lambda rng: rescaled(rng, ridge(rng, True)),
    "rescaled tikhonov": lambda rng: rescaled(rng, Tikhonov(0.3)),
    "rescaled foe": lambda rng: rescaled(rng, foe(rng, "student-t")),
    "ridge weakly convex filters": lambda rng: ridge_filters(rng, True),
    "spline ridge of a noise level": noisy_ridge,
    "grouped": lambda rng: grouped(rng, 4),
    "wavelets": wavelets,
    "multi-scale tv": lambda rng: MultiScale(tv(rng), 2, torch.rand(2, generator=rng) + 0.5),
}


@dataclass(frozen=True)
class Case:
    """A strongly convex energy with data and targets."""

    energy: Variational
    y: Tensor
    target: Tensor


def make(operator: str, regulariser: str, seed: int, dtype: torch.dtype, batch: int = 1) -> Case:
    """A random problem; a ridge makes it strongly convex where it would not be."""
    rng = generator(seed, operator, regulariser)
    a, r = OPERATORS[operator](rng), REGULARISERS[regulariser](rng)
    fidelity = SquaredL2(a, log_uniform(rng, -0.5, 0.5), learn=("weight",))
    return completed(fidelity, r, rng, dtype, (batch, *SHAPE))


def completed(
    fidelity: Fidelity, r: Regulariser, rng: Random, dtype: torch.dtype, shape: tuple[int, ...]
) -> Case:
    """With random images, data, and a ridge."""
    a = fidelity.operator
    energy = Variational(fidelity, r + Tikhonov(log_uniform(rng, -2, 0), learn=()))
    target = torch.rand(shape, generator=rng)
    energy, target = energy.to(dtype), target.to(dtype)
    shortfall = float(energy.bounds(a.to(dtype)(target)).mu)
    if shortfall < 0.01:
        ridge = Tikhonov(float(0.02 - shortfall), learn=())
        energy = Variational(fidelity, (r + ridge)).to(dtype)
        missing = 0.02 - float(energy.bounds(a(target)).mu)
        if missing > 0:
            ridge = Tikhonov(float(0.02 - shortfall + missing), learn=())
            energy = Variational(fidelity, (r + ridge)).to(dtype)
    clean = a.to(dtype)(target)
    y = clean + 0.1 * normal(rng, *clean.shape).to(dtype)
    return Case(energy, y.detach(), target)


def dense_hessian(energy: Energy, x: Tensor, y: Tensor) -> Tensor:
    """∂²J by autograd of the value, for one row; independent of every closed form."""

    def value(flat: Tensor) -> Tensor:
        return energy.forward(flat.reshape(x.shape), y).sum()

    matrix: Tensor = torch.autograd.functional.hessian(value, x.flatten(), vectorize=True)  # type: ignore[assignment]
    return matrix.detach()


def slope(energy: Energy, x: Tensor, y: Tensor) -> Tensor:
    """∇J by autograd of the value."""
    point = x.detach().requires_grad_()
    return torch.autograd.grad(energy.forward(point, y).sum(), point)[0].detach()


def reference(energy: Energy, x: Tensor, y: Tensor) -> Tensor:
    """The exact minimiser of one row by damped Newton steps in float64, to rounding.

    Starts from x; raises if the gradient that autograd finds does not vanish.
    """
    energy = copy.deepcopy(energy).double()
    for parameter in energy.parameters():
        parameter.requires_grad_(False)
    x, y = x.double(), y.double()
    gradient = slope(energy, x, y)
    for _ in range(200):
        if float(gradient.norm()) < 1e-14:
            break
        step = torch.linalg.solve(dense_hessian(energy, x, y), gradient.flatten()).reshape(x.shape)
        scale, before = 1.0, float(gradient.norm())
        while True:
            trial = x - scale * step
            gradient = slope(energy, trial, y)
            if float(gradient.norm()) < before or scale < 1e-8:
                break
            scale /= 2
        if float(gradient.norm()) >= before:
            break
        x = trial
    floor = 1e-12 + 1e-15 * float(y.norm())
    assert float(slope(energy, x, y).norm()) < floor, "the reference itself did not converge"
    return x
