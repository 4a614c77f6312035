from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bilevel.ground.randomness import generator
from bilevel.model.group_norm import GroupNorm
from bilevel.model.group_power import GroupPower
from bilevel.model.metrics import Metric
from bilevel.model.operators import Differences

PLACES = 60


def drawn(p: float, seed: int = 0) -> tuple[GroupPower, Tensor]:
    """Powers with weights and metrics of their own at every place, and vectors."""
    rng = generator(seed, "power", str(p))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    metric = Metric(0.3 * normal(1, PLACES), 0.8 * normal(1, PLACES), 0.8 * normal(1, PLACES))
    weight = 2 * torch.rand(1, PLACES, generator=rng, dtype=torch.float64) + 0.01
    exponent = torch.tensor(p, dtype=torch.float64)
    return GroupPower(Differences(), weight, exponent=exponent, metric=metric), normal(
        1, 2, 1, PLACES
    )


def sizes(power: GroupPower, s: Tensor) -> Tensor:
    """w (sᵀMs)^(p/2) at every place, of s (..., 2, k, places), by its definition."""
    first, mixed, second = power.metric.entries()
    down, right = s[..., 0, :, :], s[..., 1, :, :]
    square = first * right.square() + 2 * mixed * right * down + second * down.square()
    return power.weight * square.clamp_min(0.0).pow(power.exponent / 2)


@pytest.mark.parametrize("p", [0.3, 0.7, 0.95, 1.0, 1.4, 2.0])
def test_prox_is_the_least_of_its_definition(p: float) -> None:
    """Against a fine grid of the square around t, and 0."""
    power, t = drawn(p)
    step = torch.tensor([0.7], dtype=torch.float64)

    def energy(s: Tensor) -> Tensor:
        return sizes(power, s) + (s - t[0]).square().sum(-3) / 1.4

    line = torch.linspace(-1.2, 1.2, 241, dtype=torch.float64)[:, None] * t.abs().amax(1)[0]
    rest = torch.full((1, PLACES), torch.inf, dtype=torch.float64)
    for down in line:
        grid = torch.stack([down.expand_as(line), line])
        rest = torch.minimum(rest, energy(grid).amin(0, keepdim=True))
    found = energy(power.prox(t, step)[0])
    assert bool((found <= rest + 1e-9).all())
    assert float((rest - found).mean()) < 1e-3


def test_prox_of_lengths_is_that_of_a_norm() -> None:
    power, t = drawn(1.0)
    flat = GroupPower(Differences(), power.weight)
    norm, step = GroupNorm(Differences(), power.weight, group=2), torch.tensor([0.3]).double()
    torch.testing.assert_close(flat.prox(t, step), norm.prox(t, step), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("p", [1.0, 1.3, 2.0])
def test_the_conjugate_makes_a_gap_that_vanishes_at_subgradients(p: float) -> None:
    power, t = drawn(p)
    power_at = power.polar(t)
    slack, size = power.slack(t, power_at)
    assert float(slack) < 1e-12 * float(size)
    for seed in range(20):
        other, p_other = drawn(p, seed)[1], power.feasible(drawn(p, seed + 50)[1])
        terms, _ = power.slack(other, p_other)
        assert float(terms) >= 0
        change = power.value(other) - power.value(t) - (power_at * (other - t)).sum()
        assert float(change) >= -1e-10


@pytest.mark.parametrize("p", [1.0, 1.5])
def test_dual_steps_are_those_of_the_conjugate(p: float) -> None:
    """q = prox_{s F*}(v) has (v - q)/s in ∂F*(q): F and F* meet there."""
    power, t = drawn(p)
    step = torch.tensor([0.4], dtype=torch.float64)
    q = power.ascend(torch.zeros_like(t), t, step)
    slack, size = power.slack((0.4 * t - q) / 0.4, power.feasible(q))
    assert float(slack) < 1e-8 * float(size)


def test_powers_below_one_have_no_dual_variable_but_zero() -> None:
    power, t = drawn(0.6)
    assert not power.convex and bool((power.feasible(t) == 0).all())
    slack, _ = power.slack(t, power.feasible(t))
    torch.testing.assert_close(slack, power.value(t))
