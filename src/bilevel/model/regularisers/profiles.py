"""Profiles Ψ of ridge regularisers, at given parameters: even, with Ψ' piecewise linear."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bilevel.ground.fused import fused
from bilevel.model.splines import OddSpline

__all__ = ["HuberProfile", "Profile", "SplineProfile"]


@dataclass(frozen=True)
class Profile(ABC):
    """Ψ(r), seen in s = b r, where the factor b is what makes its evaluation cheapest.

    Features s are (b, m, h, w); a ``reach`` is how far each of them may move.
    """

    @property
    @abstractmethod
    def slopes(self) -> tuple[Tensor, Tensor]:
        """The least and the largest value of Ψ'', in float64."""

    @abstractmethod
    def force(self, s: Tensor) -> Tensor:
        """Ψ'(r)."""

    @abstractmethod
    def value_and_force(self, s: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_j scales_j Σ_i b Ψ(r_ji), (b,), and the force; scales (m,) or (b, m, 1, 1)."""

    @abstractmethod
    def curvature(self, s: Tensor) -> Tensor:
        """Ψ''(r)/b, at a kink one of the values beside it."""

    @abstractmethod
    def majorant(self, s: Tensor) -> Tensor:
        """M/b with Ψ(r + d) <= Ψ(r) + Ψ'(r) d + M d²/2 for all d."""

    def leaning(self, s: Tensor) -> Tensor:
        """M/b >= 0 of a quadratic that is like Ψ near 0 and r: what preconditioners are made of."""
        return self.majorant(s)

    @abstractmethod
    def curvature_change(self, s: Tensor, reach: Tensor) -> Tensor:
        """At least what Ψ'' can change by; 0 where no kink can be crossed."""

    @abstractmethod
    def level(self, s: Tensor) -> Tensor:
        """|Ψ'(r) - r Ψ''(r)|, constant between kinks."""

    @abstractmethod
    def level_change(self, s: Tensor, reach: Tensor) -> Tensor:
        """At least what Ψ' - r Ψ'' can change by."""

    @property
    def steepest(self) -> Tensor:
        """The largest |Ψ''|."""
        least, most = self.slopes
        return torch.maximum(most, -least)


@dataclass(frozen=True)
class HuberProfile(Profile):
    """Ψ(r) = ψ(b r)/b - ρ ψ(r), ψ the Huber function; ρ is 1 or 0."""

    log_sharpness: Tensor
    weakly_convex: bool

    @cached_property
    def sharp(self) -> Tensor:
        """b."""
        return self.log_sharpness.exp()

    @cached_property
    def blunt(self) -> Tensor | None:
        """1/b where the profile is weakly convex."""
        return (-self.log_sharpness).exp() if self.weakly_convex else None

    @property
    def slopes(self) -> tuple[Tensor, Tensor]:
        """-ρ and b - ρ."""
        b, rho = self.log_sharpness.double().exp(), float(self.weakly_convex)
        return torch.zeros_like(b) - rho, b - rho

    @property
    def steepest(self) -> Tensor:
        """b, or 1 if that is more."""
        return self.sharp.clamp_min(1.0)

    def force(self, s: Tensor) -> Tensor:
        """clip(b r) - ρ clip(r), clip to [-1, 1]."""
        return _force(s, self.blunt)

    def value_and_force(self, s: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """Both in one pass."""
        return _value_and_force(s, self.blunt, scales)

    def curvature(self, s: Tensor) -> Tensor:
        """1(|s| <= 1) - ρ/b 1(|s| <= b)."""
        size = s.abs()
        curve = (size <= 1).to(s.dtype)
        if self.blunt is not None:
            curve = curve - self.blunt * (size * self.blunt <= 1).to(s.dtype)
        return curve

    def majorant(self, s: Tensor) -> Tensor:
        """ψ'(s)/s; the concave -ρ ψ(r) lies below its tangent."""
        return s.abs().clamp_min(1.0).reciprocal()

    def crossing(self, s: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """Where |s| may cross 1, and b if there is a kink."""
        size = s.abs()
        sharp, blunt = (size - 1).abs() <= reach, (size - self.sharp).abs() <= reach
        return sharp, blunt & self.weakly_convex

    def curvature_change(self, s: Tensor, reach: Tensor) -> Tensor:
        """b at the first kink and ρ at the second."""
        sharp, blunt = self.crossing(s, reach)
        return sharp.to(s) * self.sharp + blunt.to(s)

    def level(self, s: Tensor) -> Tensor:
        """1 beyond the first kink, 1 - ρ beyond the second."""
        size = s.abs()
        rho = float(self.weakly_convex)
        return (size > 1).to(size) - rho * (size > self.sharp).to(size)

    def level_change(self, s: Tensor, reach: Tensor) -> Tensor:
        """1 at the first kink, ρ at the second; again where 0 is crossed and their twins are met.

        Ψ' - r Ψ'' is odd: beyond a kink it has the other sign on the other side.
        """
        sharp, blunt = self.crossing(s, reach)
        size = s.abs()
        over = (size > 1) & (size + 1 <= reach)
        far = (size > self.sharp) & (size + self.sharp <= reach) & self.weakly_convex
        return sharp.to(s) + over.to(s) + blunt.to(s) + far.to(s)


@dataclass(frozen=True)
class SplineProfile(Profile):
    """Ψ' a linear spline; b = 1."""

    spline: OddSpline

    @property
    def slopes(self) -> tuple[Tensor, Tensor]:
        """Of all pieces, that of slope 0 beyond the last knot among them."""
        least, most = self.spline.steep.detach().double().aminmax()
        return least, most

    def force(self, s: Tensor) -> Tensor:
        """The spline."""
        return self.spline.value(s)

    def value_and_force(self, s: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """The spline and its integral."""
        penalty, force = self.spline.both(s)
        return _weighed(penalty, scales), force

    def curvature(self, s: Tensor) -> Tensor:
        """The slope of the piece."""
        return self.spline.slope(s)

    def majorant(self, s: Tensor) -> Tensor:
        """The largest slope."""
        return torch.ones_like(s) * self.slopes[1].to(s)

    def leaning(self, s: Tensor) -> Tensor:
        """Ψ'(r)/r where that is positive, and the largest slope near 0."""
        first = self.spline.knots[0].detach()
        ratio = self.spline.value(s).abs() / s.abs().clamp_min(first)
        return ratio.clamp_min(1e-4 * self.slopes[1].to(s))

    def curvature_change(self, s: Tensor, reach: Tensor) -> Tensor:
        """The most by which slopes within reach differ from that at s."""
        return self.spline.slope_change(s, reach)

    def level(self, s: Tensor) -> Tensor:
        """|a| where the piece is a + c s."""
        return self.spline.level(s).abs()

    def level_change(self, s: Tensor, reach: Tensor) -> Tensor:
        """By which those within reach differ."""
        return self.spline.level_change(s, reach)


@fused
def _force(s: Tensor, blunt: Tensor | None) -> Tensor:
    """clip(s) - ρ clip(s/b)."""
    force = s.clamp(-1, 1)
    return force if blunt is None else force - (s * blunt).clamp(-1, 1)


@fused
def _value_and_force(s: Tensor, blunt: Tensor | None, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Σ scale (ψ(s) - ρ b ψ(s/b)), (b,), and the force; ψ(s) = p (s - p/2) for p = clip(s)."""
    sharp = s.clamp(-1, 1)
    penalty = torch.sub(s, sharp, alpha=0.5) * sharp
    if blunt is None:
        return _weighed(penalty, scales), sharp
    flat = (s * blunt).clamp(-1, 1)
    penalty = penalty - (s - flat / (2 * blunt)) * flat
    return _weighed(penalty, scales), sharp - flat


def _weighed(penalty: Tensor, scales: Tensor) -> Tensor:
    """Σ_j scale_j Σ_i penalty_ji; of scales (m,) as a product with channels last in memory."""
    if scales.ndim > 1:
        return (scales * penalty).flatten(1).sum(1)
    return (penalty.permute(0, 2, 3, 1) @ scales).flatten(1).sum(1)
