"""Powers of the length of an image's gradient in a metric, both from pixel to pixel, smoothed.

Σ_i a_i ε² ψ_p(M_i^(1/2) g_i/ε) with ψ_p as in :mod:`bilevel.model.powers`: values, gradients and
curvature, as functions of x and of what a :class:`LocalPower` computes once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.fused import fused
from bilevel.model.metrics import Metric
from bilevel.model.operators import Differences

__all__ = [
    "DIFFERENCES",
    "Entries",
    "LocalPower",
    "above",
    "curvature",
    "gradient",
    "pairs",
    "quadratic",
    "through",
    "value",
    "value_and_gradient",
]

DIFFERENCES = Differences()
Entries = tuple[Tensor, Tensor, Tensor]
"""A symmetric 2x2 matrix at every pixel: the first of its diagonal, the other entry, the second."""
Pair = tuple[Tensor, Tensor]
"""Differences to the right and down."""


@dataclass(frozen=True)
class LocalPower:
    """log w, p and M, numbers or maps, with log ε and log s."""

    log_weight: Tensor
    exponent: Tensor
    metric: Metric
    log_smoothing: Tensor
    log_scale: Tensor

    @property
    def stiffness(self) -> Tensor:
        """a = w p (s/ε)^(1 - p)/ε."""
        ratio = (1 - self.exponent) * (self.log_scale - self.log_smoothing)
        return self.exponent * (self.log_weight + ratio - self.log_smoothing).exp()

    def profile(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The entries of M, a, p and ε."""
        first, mixed, second = self.metric.entries()
        smoothing = self.log_smoothing.exp()
        return first, mixed, second, self.stiffness, self.exponent, smoothing


def pairs(x: Tensor) -> Pair:
    """D x, as (right, down)."""
    down, right = DIFFERENCES(x).chunk(2, 1)
    return right, down


def quadratic(g: Pair, m: Entries) -> Tensor:
    """gᵀMg, never below 0."""
    z = _product(g, m)
    return (g[0] * z[0] + g[1] * z[1]).clamp_min(0.0)


def through(v: Tensor, m: Entries) -> Tensor:
    """Dᵀ M D v."""
    return _gathered(_product(pairs(v), m))


def _product(g: Pair, m: Entries) -> Pair:
    return m[0] * g[0] + m[1] * g[1], m[1] * g[0] + m[2] * g[1]


def _gathered(p: Pair) -> Tensor:
    return DIFFERENCES.adjoint(torch.cat([p[1], p[0]], 1))


@fused
def value(
    x: Tensor, m0: Tensor, m1: Tensor, m2: Tensor, stiffness: Tensor, p: Tensor, smoothing: Tensor
) -> Tensor:
    """Σ a ε² ψ_p, (b,)."""
    square = quadratic(pairs(x), (m0, m1, m2)) / smoothing.square()
    return _total(square, stiffness, p, smoothing)


@fused
def gradient(
    x: Tensor, m0: Tensor, m1: Tensor, m2: Tensor, stiffness: Tensor, p: Tensor, smoothing: Tensor
) -> Tensor:
    """Dᵀ a B^(p/2 - 1) M D x with B = 1 + gᵀMg/ε²."""
    return _sloped(x, (m0, m1, m2), stiffness, p, smoothing)[1]


@fused
def value_and_gradient(
    x: Tensor, m0: Tensor, m1: Tensor, m2: Tensor, stiffness: Tensor, p: Tensor, smoothing: Tensor
) -> tuple[Tensor, Tensor]:
    """Both."""
    square, slope = _sloped(x, (m0, m1, m2), stiffness, p, smoothing)
    return _total(square, stiffness, p, smoothing), slope


@fused
def curvature(
    x: Tensor, m0: Tensor, m1: Tensor, m2: Tensor, stiffness: Tensor, p: Tensor, smoothing: Tensor
) -> Entries:
    """a [B^(p/2 - 1) M + (p - 2)/ε² B^(p/2 - 2) Mg gᵀM], the matrix between Dᵀ and D."""
    g = pairs(x)
    z = _product(g, (m0, m1, m2))
    root = 1 + (g[0] * z[0] + g[1] * z[1]).clamp_min(0.0) / smoothing.square()
    across = stiffness * root.pow(p / 2 - 1)
    bent = (p - 2) * across / root
    s, t = z[0] / smoothing, z[1] / smoothing
    return across * m0 + bent * s * s, across * m1 + bent * s * t, across * m2 + bent * t * t


@fused
def above(
    x: Tensor, m0: Tensor, m1: Tensor, m2: Tensor, stiffness: Tensor, p: Tensor, smoothing: Tensor
) -> Entries:
    """a B^(p/2 - 1) M, that of a majoriser."""
    root = 1 + quadratic(pairs(x), (m0, m1, m2)) / smoothing.square()
    across = stiffness * root.pow(p / 2 - 1)
    return across * m0, across * m1, across * m2


def _sloped(
    x: Tensor, m: Entries, stiffness: Tensor, p: Tensor, smoothing: Tensor
) -> tuple[Tensor, Tensor]:
    """gᵀMg/ε² and the gradient."""
    g = pairs(x)
    z = _product(g, m)
    square = (g[0] * z[0] + g[1] * z[1]).clamp_min(0.0) / smoothing.square()
    scale = stiffness * (1 + square).pow(p / 2 - 1)
    return square, _gathered((scale * z[0], scale * z[1]))


def _total(square: Tensor, stiffness: Tensor, p: Tensor, smoothing: Tensor) -> Tensor:
    """Without cancellation near 0."""
    size = torch.expm1(p / 2 * torch.log1p(square)) / p
    return (stiffness * smoothing.square() * size).sum(-1).flatten(1).sum(1)
