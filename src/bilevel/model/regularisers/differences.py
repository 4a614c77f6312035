"""Forward differences and what total variation makes of them, written to be fused into one pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from bilevel.ground.fused import fused
from bilevel.model.potentials import Potential

__all__ = [
    "Curvature",
    "differences",
    "divergence",
    "tv_curvature",
    "tv_gradient",
    "tv_hessian_product",
    "tv_value_and_gradient",
]

Curvature = tuple[Tensor, Tensor, Tensor]
"""The symmetric 2x2 matrix of every pixel: its diagonal's two entries, then the other one."""


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Downwards and to the right, zero across the last row and column: (b, c, h, w) each."""
    down = pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    right = pad(x[..., 1:] - x[..., :-1], (0, 1))
    return down, right


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """The negative adjoint of :func:`differences`."""
    return (
        pad(p[..., :-1, :], (0, 0, 0, 1))
        - pad(p[..., :-1, :], (0, 0, 1, 0))
        + pad(q[..., :-1], (0, 1))
        - pad(q[..., :-1], (1, 0))
    )


def _sizes(down: Tensor, right: Tensor, isotropic: bool) -> tuple[Tensor, Tensor]:
    """|t| of what is penalised together."""
    if not isotropic:
        return down.abs(), right.abs()
    size = (down * down + right * right).clamp_min(torch.finfo(down.dtype).tiny).sqrt()
    return size, size


@fused
def tv_gradient(
    x: Tensor, weight: Tensor, smoothing: Tensor, potential: Potential, isotropic: bool
) -> Tensor:
    """Dᵀ(w φ'(D x)), φ_ν(t) = ν ψ(|t|/ν)."""
    down, right = differences(x)
    first, second = _sizes(down, right, isotropic)
    scale = weight / smoothing
    p = scale * potential.ratio(first / smoothing) * down
    q = scale * potential.ratio(second / smoothing) * right
    return -divergence(p, q)


@fused
def tv_value_and_gradient(
    x: Tensor, weight: Tensor, smoothing: Tensor, potential: Potential, isotropic: bool
) -> tuple[Tensor, Tensor]:
    """Σ w φ(D x), (b,), and its gradient."""
    down, right = differences(x)
    first, second = _sizes(down, right, isotropic)
    penalty = potential.value(first / smoothing)
    if not isotropic:
        penalty = penalty + potential.value(second / smoothing)
    value = (weight * smoothing * penalty).flatten(1).sum(1)
    scale = weight / smoothing
    p = scale * potential.ratio(first / smoothing) * down
    q = scale * potential.ratio(second / smoothing) * right
    return value, -divergence(p, q)


@fused
def tv_curvature(
    x: Tensor, weight: Tensor, smoothing: Tensor, potential: Potential, isotropic: bool
) -> Curvature:
    """w ∇²φ(D x) of every pixel: ψ'(s)/s across t = D x and ψ''(s) along it, over ν; s = |t|/ν."""
    down, right = differences(x)
    first, second = _sizes(down, right, isotropic)
    scale = weight / smoothing
    if not isotropic:
        below, beside = (scale * potential.curvature(s / smoothing) for s in (first, second))
        return below, beside, torch.zeros_like(below)
    across = scale * potential.ratio(first / smoothing)
    change = scale * potential.curvature(first / smoothing) - across
    n, m = down / first, right / first
    return across + change * n * n, across + change * m * m, change * n * m


@fused
def tv_hessian_product(v: Tensor, below: Tensor, beside: Tensor, mixed: Tensor) -> Tensor:
    """Dᵀ C D v for the curvature C of every pixel."""
    down, right = differences(v)
    return -divergence(below * down + mixed * right, mixed * down + beside * right)
