"""What bounds of derivatives rest on: how far profiles change within a reach, whatever is met."""

from __future__ import annotations

import pytest
import torch

from bilevel.model.regularisers.profiles import HuberProfile, Profile, SplineProfile
from bilevel.model.splines import OddSpline


def spline() -> SplineProfile:
    """Slopes of both signs, and 0 beyond the last knot."""
    slopes = torch.tensor([2.0, 0.5, -1.0, 1.5, -0.3, 0.7], dtype=torch.float64)
    knots = torch.tensor([0.3, 0.8, 1.1, 2.0, 3.1, 4.0], dtype=torch.float64)
    return SplineProfile(OddSpline(knots, slopes))


def huber(sharpness: float, weakly_convex: bool) -> HuberProfile:
    return HuberProfile(torch.tensor(sharpness, dtype=torch.float64).log(), weakly_convex)


PROFILES = {
    "convex": huber(3.0, False),
    "weakly convex": huber(3.0, True),
    "hardly sharp": huber(1.2, True),
    "spline": spline(),
}


def level(profile: Profile, s: torch.Tensor) -> torch.Tensor:
    """Ψ' - r Ψ'', with its sign."""
    return profile.force(s) - s * profile.curvature(s)


@pytest.mark.parametrize("name", PROFILES)
def test_changes_within_a_reach_are_bounded(name: str) -> None:
    """Also where 0 and the kinks on both sides of it are crossed."""
    profile = PROFILES[name]
    s = torch.linspace(-6, 6, 241, dtype=torch.float64)[:, None, None, None] + 1e-9
    there = torch.linspace(-8, 8, 641, dtype=torch.float64)[None, None, None] - 1e-9
    for reach in (0.05, 0.5, 1.7, 2.5, 4.1, 7.0, 9.5):
        allowed = torch.full_like(s, reach)
        near = (there - s).abs() <= reach
        turn = profile.level_change(s, allowed)
        moved = (level(profile, there) - level(profile, s)).abs()
        assert bool((torch.where(near, moved, 0.0) <= turn + 1e-9).all())
        factor = profile.sharp if isinstance(profile, HuberProfile) else 1.0
        bend = profile.curvature_change(s, allowed)
        bent = factor * (profile.curvature(there) - profile.curvature(s)).abs()
        assert bool((torch.where(near, bent, 0.0) <= bend + 1e-9).all())
