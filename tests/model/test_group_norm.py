"""The dual terms against brute force over their definition."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators import Differences, Identity

RNG = torch.Generator().manual_seed(2)
SHAPE = (1, 2, 3, 4)
Z = 2 * torch.randn(SHAPE, dtype=torch.float64, generator=RNG)
SHIFT = torch.randn(SHAPE, dtype=torch.float64, generator=RNG)
MAP = torch.rand(SHAPE[2:], dtype=torch.float64, generator=RNG) + 0.1
WEIGHT = torch.tensor(0.6, dtype=torch.float64)

TERMS = {
    "absolute": GroupNorm(Identity(), WEIGHT),
    "absolute, map, shift": GroupNorm(Identity(), MAP, shift=SHIFT),
    "lengths": GroupNorm(Identity(), WEIGHT, group=2),
    "coupled": GroupNorm(Identity(), MAP, group=None),
    "lengths, map, shift": GroupNorm(Identity(), MAP, group=2, shift=SHIFT),
    "absolute, weight of a row": GroupNorm(Identity(), WEIGHT.view(1, 1, 1, 1), shift=SHIFT),
    "lengths, map of a row": GroupNorm(Identity(), MAP[None, None], group=2),
}


def ball(group: int) -> Tensor:
    """Points of the unit ball, (n, group)."""
    if group == 1:
        return torch.linspace(-1, 1, 4001, dtype=torch.float64)[:, None]
    radius = torch.linspace(0, 1, 120, dtype=torch.float64)[:, None]
    angle = torch.linspace(-math.pi, math.pi, 721, dtype=torch.float64)
    points = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
    return points.reshape(-1, 2)


def grouped(a: Tensor, group: int) -> Tensor:
    """(pixels, group)."""
    return a.unflatten(1, (group, -1)).movedim(1, -1).reshape(-1, group)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("step", [0.3, 2.0])
def test_the_dual_prox_is_the_minimiser_of_its_definition(name: str, step: float) -> None:
    """argmin_p ⟨p, c⟩ + ‖p - z‖²/(2 step) over |p_i| <= w_i, where z = p0 + step t."""
    term, p0 = TERMS[name], Z.flip(-1) / 3
    found = term.ascend(p0, Z, torch.tensor([step], dtype=torch.float64))
    target = grouped(p0 + step * Z, term.parts(Z))
    shift = torch.zeros_like(target)
    if term.shift is not None:
        shift = grouped(term.shift, term.parts(Z))
    radius = term.weight.expand(*SHAPE[:1], SHAPE[1] // term.parts(Z), *SHAPE[2:]).reshape(-1)
    got = grouped(found, term.parts(Z))
    assert bool((got.norm(dim=1) <= radius * (1 + 1e-12)).all())

    def energy(p: Tensor, k: int) -> Tensor:
        return p @ shift[k] + (p - target[k]).square().sum(-1) / (2 * step)

    for k in range(len(target)):
        best = float(energy(radius[k] * ball(term.parts(Z)), k).min())
        mine = float(energy(got[k], k))
        assert mine <= best + 1e-12
        assert mine >= best - 2e-2 / step


@pytest.mark.parametrize("name", TERMS)
def test_slack_is_fenchels_inequality(name: str) -> None:
    """F(t) + F*(p) - ⟨t, p⟩ with F* as a supremum over many t; zero for the polar of t."""
    term = TERMS[name]
    p = term.feasible(Z.flip(-1))
    slack, value = term.slack(Z, p)
    torch.testing.assert_close(value, term.value(Z))
    shift = torch.zeros_like(Z) if term.shift is None else term.shift
    conjugate = (p * shift).sum()
    for scale in (1e-3, 0.1, 1.0, 10.0):
        t = shift + scale * torch.randn(SHAPE, dtype=torch.float64, generator=RNG)
        assert float((t * p).sum() - term.value(t)) <= float(conjugate) + 1e-12
    assert float(slack) == pytest.approx(float(value + conjugate - (Z * p).sum()), abs=1e-12)
    assert float(term.slack(Z, term.polar(Z))[0]) == pytest.approx(0.0, abs=1e-12)


def test_the_polar_of_nothing_is_nothing() -> None:
    flat = GroupNorm(Differences(), WEIGHT, group=2)
    t = flat.forward(torch.ones(1, 1, 3, 3, dtype=torch.float64))
    assert float(flat.polar(t).abs().max()) == 0


def test_projecting_leaves_its_argument_alone() -> None:
    before = Z.clone()
    TERMS["lengths"].feasible(Z)
    TERMS["absolute"].feasible(Z)
    assert torch.equal(Z, before)


def test_rows() -> None:
    term = GroupNorm(Differences(), WEIGHT.float(), shift=torch.rand(3, 2, 2, 2))
    part = term.rows(torch.tensor([2]))
    assert part.shift is not None
    assert part.shift.shape == (1, 2, 2, 2)


@pytest.mark.parametrize("name", TERMS)
def test_rows_of_different_weights_are_the_term_times_them(name: str) -> None:
    term, factor = TERMS[name], torch.tensor([0.5, 3.0], dtype=torch.float64)
    t = torch.cat([Z, Z.flip(-1)])
    shift = None if term.shift is None else term.shift.expand(2, -1, -1, -1)
    scaled = replace(term, shift=shift).scaled(factor)
    torch.testing.assert_close(scaled.largest(t), factor * float(term.weight.max()))
    for k in range(2):
        part, one = scaled.rows(torch.tensor([k])), t[k : k + 1]
        assert float(part.value(one)) == pytest.approx(float(factor[k] * term.value(one)))
        torch.testing.assert_close(part.polar(one), factor[k] * term.polar(one))
    torch.testing.assert_close(scaled.value(t), factor * replace(term, shift=shift).value(t))


@pytest.mark.parametrize("name", TERMS)
def test_the_dual_prox_can_be_differentiated(name: str) -> None:
    """The same values as without a tape, and the right derivative; also where p = t = 0."""
    term, step = TERMS[name], torch.tensor([0.7], dtype=torch.float64)
    p, t = Z.flip(-1) / 3, Z.clone()
    p[..., 0] = t[..., 0] = 0
    with torch.no_grad():
        plain = term.ascend(p, t, step)
    torch.testing.assert_close(term.ascend(p, t, step), plain, rtol=1e-14, atol=1e-14)
    weight = term.weight.clone().requires_grad_()
    inputs = (p.requires_grad_(), t.requires_grad_(), weight)
    assert torch.autograd.gradcheck(
        lambda p, t, w: replace(term, weight=w).ascend(p, t, step), inputs
    )
