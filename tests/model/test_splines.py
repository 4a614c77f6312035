"""Odd linear splines: against their definition, and what they can change by within reach."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bilevel.model.splines import OddSpline, even_knots

EVEN = 0.25 * torch.arange(1, 9, dtype=torch.float64)
UNEVEN = torch.tensor([0.1, 0.15, 0.7, 0.71, 1.9], dtype=torch.float64)


def spline(knots: Tensor, *each: int) -> OddSpline:
    slopes = torch.randn(*each, len(knots), dtype=torch.float64)
    return OddSpline(knots, slopes, 0.25 if knots is EVEN else None)


def by_definition(f: OddSpline, s: Tensor) -> Tensor:
    """sign(s) Σ_k c_k (how far |s| is in interval k)."""
    ends = torch.cat([torch.zeros(1, dtype=torch.float64), f.knots])
    total = torch.zeros_like(s)
    for k in range(len(f.knots)):
        slope = f.slopes[..., k]
        slope = slope[:, None] if slope.ndim else slope
        total = total + slope * (s.abs() - ends[k]).clamp(0, float(ends[k + 1] - ends[k]))
    return s.sign() * total


@pytest.mark.parametrize("each", [(), (3,)])
@pytest.mark.parametrize("knots", [EVEN, UNEVEN])
def test_values_derivatives_and_lengths(knots: Tensor, each: tuple[int, ...]) -> None:
    f, s = spline(knots, *each), 2.0 * torch.randn(2, 3, 60, dtype=torch.float64)
    s.requires_grad_()
    (force,) = torch.autograd.grad(f.integral(s).sum(), s)
    (slope,) = torch.autograd.grad(f.value(s).sum(), s)
    torch.testing.assert_close(force, by_definition(f, s.detach()), rtol=0, atol=1e-13)
    torch.testing.assert_close(f.value(s).detach(), force, rtol=0, atol=1e-13)
    torch.testing.assert_close(f.slope(s), slope)
    level = (f.value(s) - s * f.slope(s)).detach()
    torch.testing.assert_close(f.level(s).detach(), level, rtol=0, atol=1e-12)
    assert float(f.integral(torch.zeros(1, 3, 1, dtype=torch.float64)).abs().max()) == 0.0
    past = [
        by_definition(OddSpline(knots, torch.eye(len(knots), dtype=torch.float64)[k]), s.detach())
        for k in range(len(knots))
    ]
    torch.testing.assert_close(f.lengths(s.detach()), torch.stack(past).square().sum(0).sqrt())


@pytest.mark.parametrize("each", [(), (3,)])
@pytest.mark.parametrize("knots", [EVEN, UNEVEN])
def test_changes_within_reach_are_never_exceeded(knots: Tensor, each: tuple[int, ...]) -> None:
    f, s = spline(knots, *each), torch.randn(2, 3, 60, dtype=torch.float64)
    reach = 10 ** (-3 * torch.rand(s.shape, dtype=torch.float64))
    slope, level = torch.zeros_like(s), torch.zeros_like(s)
    for share in torch.linspace(-1, 1, 801, dtype=torch.float64):
        other = s + share * reach
        slope = torch.maximum(slope, (f.slope(other) - f.slope(s)).abs())
        level = torch.maximum(level, (f.level(other) - f.level(s)).abs())
    bound = f.slope_change(s, reach)
    assert bool((slope <= bound).all())
    assert bool((level <= f.level_change(s, reach) + 1e-12).all())
    assert float((bound - slope).median()) == 0.0, "the bound is what happens"


def test_knots_are_even() -> None:
    torch.testing.assert_close(even_knots(2.0, 8), EVEN.float())
