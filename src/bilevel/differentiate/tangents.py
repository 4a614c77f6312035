"""Derivatives of the reconstruction by a few parameters, one linear system for each."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevel.differentiate.upper import Upper
from bilevel.ground import rows
from bilevel.linear import symmetric
from bilevel.model.kinds import required
from bilevel.model.objective import Objective
from bilevel.model.smooth_objective import SmoothObjective

__all__ = ["dual_level", "dual_number", "gauss_newton", "tangents"]


def tangents(lower: Objective, x: Tensor, *, rtol: float = 1e-6, max_steps: int = 1000) -> Tensor:
    """S_j = ∂x/∂θ_j = -H⁻¹ ∂_θj ∇J(x), (p, b, c, h, w), at minimisers x.

    The right-hand sides by forward mode, the systems to ``rtol``. Entries
    of θ are in the order of ``flatten``; nothing is proved of the error.

    Source: implicit function theorem; Pedregosa 2016, arXiv 1602.02355, (3).

    Raises:
        InputError: an energy that has no second derivatives.

    Example:
        >>> import bilevel as bl
        >>> ridge = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> y = torch.ones(1, 1, 1, 1)
        >>> tangents(ridge.at(y), y / 2).flatten()  # of y/(1 + exp(θ)) at θ = 0
        tensor([-0.2500])
    """
    advice = "use MAID, or DFOLS where there are few parameters"
    smooth = required(lower, SmoothObjective, "a derivative of x by θ", advice=advice)
    hessian = smooth.hessian(x)
    found: list[Tensor] = []
    for name, value in smooth.theta.items():
        for entry in range(value.numel()):
            rhs = _cross(smooth, x, name, entry)
            found.append(-symmetric(hessian, rhs, rtol=rtol, max_steps=max_steps).x)
    return torch.stack(found)


def gauss_newton(upper: Upper, x: Tensor, slopes: Tensor) -> Tensor:
    """Σ_k S_kᵀ ∇²ℓ_k S_k, (p, p) float64, for ``slopes`` S of shape (p, b, c, h, w)."""
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        total = upper.value(point).sum()
        slope = torch.autograd.grad(total, point, create_graph=True)[0]
        bent = [torch.autograd.grad(slope, point, s, retain_graph=True)[0] for s in slopes]
    lines = [torch.stack([rows.inner(s, t).double().sum() for s in slopes]) for t in bent]
    matrix = torch.stack(lines)
    return (matrix + matrix.T) / 2


@contextmanager
def dual_level() -> Generator[None]:
    """Forward mode, also inside a function of one's own for autograd, where torch puts it off."""
    on = forward_ad._set_fwd_grad_enabled(True)  # pyright: ignore[reportPrivateUsage]
    with on, forward_ad.dual_level():
        yield


def dual_number(value: Tensor, entry: int) -> Tensor:
    """A copy of ``value`` with the direction of one of its entries as its tangent."""
    direction = torch.zeros_like(value)
    direction.view(-1)[entry] = 1
    with torch.enable_grad(), warnings.catch_warnings():
        # what torch itself loads at the first dual number is deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        return forward_ad.make_dual(value.clone().requires_grad_(), direction)


def _cross(lower: SmoothObjective, x: Tensor, name: str, entry: int) -> Tensor:
    """∂∇J(x)/∂θ_j."""
    theta = lower.theta
    with dual_level():
        moving = {**theta, name: dual_number(theta[name], entry)}
        with torch.enable_grad():
            slope = lower.taped(moving).grad(x.detach())
        tangent = forward_ad.unpack_dual(slope).tangent
        return torch.zeros_like(x) if tangent is None else tangent.detach()
