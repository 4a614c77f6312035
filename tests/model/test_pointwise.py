"""What is proved of single data, attacked with thousands of them: each row is one pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bilevel.ground.randomness import generator
from bilevel.ground.theta import bind, learnable
from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.fidelities.pointwise import Pointwise
from bilevel.model.operators import Identity
from contracts.fidelities import FIDELITIES, KINKED, NEGATIVE

COUNT, SHAPE = 4000, (1, 1, 1)
EVERY = [
    name
    for name, build in FIDELITIES.items()
    if isinstance(build(Identity(), generator(0, "pointwise")), Pointwise)
]


def wide(rng: torch.Generator, low: float, high: float) -> Tensor:
    power = low + (high - low) * torch.rand(COUNT, generator=rng, dtype=torch.float64)
    return (10**power).view(-1, 1, 1, 1)


def sign(rng: torch.Generator) -> Tensor:
    return (torch.rand(COUNT, 1, 1, 1, generator=rng, dtype=torch.float64) - 0.5).sign()


def single(name: str, seed: int) -> tuple[Fidelity, Tensor, Tensor, Tensor, Tensor]:
    """x, y, a point within the radius and the radius, over many orders of magnitude."""
    rng = generator(seed, "pointwise", name)
    built = FIDELITIES[name](Identity(), rng)
    if name == "heteroscedastic":
        built = type(built)(
            variance=float(built.variance.detach().mean()), learn=("weight", "variance")
        )
    y = wide(rng, -3, 1.5) * (sign(rng) if name in NEGATIVE else 1.0)
    x = torch.where(sign(rng) > 0, y, 0.0) + wide(rng, -4, 1.5) * sign(rng)
    radius = wide(rng, -4, 1)
    inside = torch.rand(COUNT, 1, 1, 1, generator=rng, dtype=torch.float64)
    other = x + sign(rng) * radius * torch.where(sign(rng) > 0, 1.0, inside)
    return built.double(), x, y, other, radius.flatten()


def slopes(fidelity: Fidelity, x: Tensor, y: Tensor) -> Tensor:
    """∂∇Ψ/∂θ, (b, parameters)."""
    step, found = 1e-5, []
    for name, value in learnable(fidelity).items():
        ends = [bind(fidelity, {name: value + s * step}).grad(x, y) for s in (1, -1)]
        found.append(((ends[0] - ends[1]) / (2 * step)).detach().flatten())
    return torch.stack(found, 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", EVERY)
def test_no_datum_violates_a_bound(name: str, seed: int) -> None:
    fidelity, x, y, other, radius = single(name, seed)
    one, near = torch.ones_like(x), 1 + 1e-9
    here, there = (fidelity.hessian(p, y)(one).detach().flatten() for p in (x, other))
    bounds = fidelity.bounds(SHAPE, y).for_rows(y)
    for curvature in (here, there):
        assert bool((curvature >= bounds.mu - 1e-9 * bounds.mu.abs()).all())
        assert bool((curvature <= bounds.lipschitz * near).all())
    change, rounding = (there - here).abs(), 1e-9 * bounds.lipschitz
    found = fidelity.variation(x, y, one, radius)
    assert bool((change <= found.hessian * near + rounding).all())
    smooth = fidelity.smoothness(x, y, radius)
    most = (smooth.lipschitz * radius).nan_to_num(torch.inf)
    assert bool((change <= most * near + rounding).all())
    assert name in KINKED or bool((smooth.kinks == 0).all())
    before, after = slopes(fidelity, x, y), slopes(fidelity, other, y)
    size = after.norm(dim=1)
    slack = 1e-6 * bounds.lipschitz * (x.abs() + y.abs() + 1).flatten()
    kink = torch.zeros_like(slack)
    if name in KINKED:  # differences by θ across a kink are neither side's
        kink = 2e-4 * bounds.lipschitz * (x.abs() + y.abs() + radius.view_as(x)).flatten()
    assert bool(((after - before).norm(dim=1) <= found.cross * near + slack + kink).all())
    assert bool((size <= found.cross_norm * near + slack + kink).all())


@pytest.mark.parametrize("name", EVERY)
def test_values_and_slopes_are_right_at_every_scale(name: str) -> None:
    """The slope against differences of the value, of data that are small, large or equal."""
    fidelity, x, y, _, _ = single(name, 7)
    step = 1e-6 * (x.abs() + 0.01)
    up, down = (fidelity(x + s * step, y).detach() for s in (1, -1))
    slope = fidelity.grad(x, y).detach().flatten()
    error = ((up - down) / (2 * step.flatten()) - slope).abs()
    stiff = fidelity.bounds(SHAPE, y).for_rows(y).lipschitz
    terms = fidelity(x, y).detach().abs()
    if fidelity.degree == 2:
        terms = terms + (x.square() + y.square()).flatten() + 1
    allowed = 1e-6 * slope.abs() + stiff * step.flatten() + 3e-14 * terms / step.flatten()
    assert bool((error <= allowed).all())
