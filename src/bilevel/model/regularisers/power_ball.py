"""How far the derivatives of a local power change over a ball, pixel by pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model import powers
from bilevel.model.bounds import Variation
from bilevel.model.local_power import DIFFERENCES, LocalPower, pairs, quadratic

__all__ = ["PIXEL", "Ball"]

PIXEL = math.sqrt(3.0)
"""The norm of the two differences of a pixel."""
Factors = tuple[Tensor, Tensor, Tensor]
"""A parameter as every pixel has it, and what f and a λ are multiplied by for it."""


@dataclass(frozen=True)
class Ball:
    """What the ball ‖x' - x‖ <= radius means for y = M^(1/2) g/ε and u = D q.

    ``norm`` is ‖D‖, ``near`` how far a gradient moves, ``square`` |y|² and ``reach`` what it may
    become. ``stiff`` is a λ, ``pull`` a λ |u| and ``force`` f = a ε λ^(1/2) |∇ψ_p(y)|; ``spread``
    and ``gradual`` bound the change of the curvature times u, at most and over how far g moves.
    """

    norm: float
    radius: Tensor
    near: Tensor
    square: Tensor
    reach: Tensor
    stiff: Tensor
    pull: Tensor
    force: Tensor
    spread: Tensor
    gradual: Tensor

    @staticmethod
    def of(at: LocalPower, x: Tensor, q: Tensor, radius: Tensor) -> Ball:
        """Around x, for q; ``radius`` (b,)."""
        entries, largest, smoothing = at.metric.entries(), at.metric.largest(), at.log_smoothing
        smoothing, root = smoothing.exp(), largest.sqrt()
        u, p, stiff = pairs(q), at.exponent, at.stiffness * largest
        square = quadratic(pairs(x), entries) / smoothing.square()
        near = rows.expand(PIXEL * radius, x)
        bent = at.stiffness * root * quadratic(u, entries).sqrt()
        force = at.stiffness * smoothing * root * square.sqrt() * (1 + square).pow(p / 2 - 1)
        return Ball(
            norm=math.sqrt(DIFFERENCES.gram_bounds((x.shape[1], x.shape[2], x.shape[3])).upper),
            radius=radius,
            near=near,
            square=square,
            reach=(square.sqrt() + root * near / smoothing).square(),
            stiff=stiff.expand_as(x),
            pull=stiff * (u[0].square() + u[1].square()).sqrt(),
            force=force,
            spread=(1 - powers.curvature_min(p)) * bent,
            gradual=powers.lipschitz(p) * root / smoothing * bent,
        )

    def factors(self, at: LocalPower) -> dict[str, Factors]:
        """For every parameter."""
        one, shear, flat = self.stiff.new_ones(()), at.metric.shear(), 2 - at.exponent
        start = 1 / at.exponent + at.log_smoothing - at.log_scale
        steep = powers.exponent_factor(at.exponent, start, self.reach)
        return {
            "log_weight": (at.log_weight, one, one),
            "log_smoothing": (at.log_smoothing, flat, flat),
            "exponent": (at.exponent, (start + 0.5 * torch.log1p(self.square)).abs(), steep),
            "log_gain": (at.metric.b, one, one),
            "cosine": (at.metric.c, shear, shear),
            "sine": (at.metric.s, shear, shear),
        }

    def variation(self, parts: Sequence[Factors]) -> Variation:
        """Of R, with the parameters of ``parts``: B = Dᵀ diag(force), one column each."""
        cross = cross_norm = torch.zeros_like(rows.length(self.stiff))
        for parameter, size, steep in parts:
            turn = rows.grouped_norm(steep * self.pull, parameter.shape) * self.norm * self.radius
            drift = self.norm * rows.norm_inf(steep * self.stiff) * self.radius
            reach = self.norm * (rows.grouped_norm(size * self.force, parameter.shape) + drift)
            cross, cross_norm = torch.hypot(cross, turn), torch.hypot(cross_norm, reach)
        bend = torch.minimum(
            rows.length(torch.minimum(self.spread, self.gradual * self.near)),
            rows.norm_inf(self.gradual) * self.norm * self.radius,
        )
        return Variation(self.norm * bend, cross, cross_norm)
