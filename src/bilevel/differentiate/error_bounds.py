"""Proved error bounds of implicit hypergradients and of adjoint-corrected values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.differentiate.upper import Upper
from bilevel.ground import rows
from bilevel.model.objective import Objective
from bilevel.solve import Solution

__all__ = ["ErrorBounds", "count_kinks", "implicit_bounds"]


@dataclass(frozen=True)
class ErrorBounds:
    """Per row: of the hypergradient, and of the adjoint-corrected value; inf where not proved."""

    gradient: Tensor
    value: Tensor
    value_estimate: Tensor
    """As ``value`` for a constant Hessian with the curvature that q met; an estimate."""


def implicit_bounds(
    lower: Objective,
    solution: Solution,
    q: Tensor,
    rhs: Tensor,
    residual: Tensor,
    upper: Upper,
) -> ErrorBounds:
    """Bounds for z = -B(x)ᵀq with ‖H(x) q - rhs‖ <= residual, rhs = ∇ℓ(x), ‖x - x̂‖ <= ε.

    With q̂ = H(x̂)⁻¹∇ℓ(x̂) and the variation of H and B over the ball of radius ε,

        ‖q - q̂‖ <= e = (hessian + residual + L_ℓ ε)/mu,
        ‖z - ∇F‖ <= cross + cross_norm · e,
        |ℓ(x) - qᵀ∇J(x) - ℓ(x̂)| <= L_ℓ ε²/2 + residual · ε + hessian · ε,

    and the last is at most ‖∇ℓ(x)‖ ε + L_ℓ ε²/2 + |qᵀ∇J(x)|, whatever q is, for which the distance
    of the image is enough.

    With Lipschitz constants for the variation this is the bound of Ehrhardt and Roberts 2024
    (arXiv 2301.04764); see docs/decisions/0003. An allowance for rounding is added.
    """
    x = solution.x
    image, certificate = lower.image(x), solution.certificate
    radius, off = certificate.distance(image), certificate.distance_of_image(image)
    mu = solution.certificate.curvature
    safe = torch.where(torch.isfinite(radius), radius, 0.0)
    shown = torch.where(torch.isfinite(off), off, 0.0)
    change, drift = lower.variation(x, q, safe), upper.drift(x, shown)
    eps, size = torch.finfo(x.dtype).eps, rows.length(q)
    residual = residual.double() + 8 * eps * lower.bounds.lipschitz * size
    adjoint = (change.hessian.double() + residual + drift) / mu
    gradient = change.cross.double() + change.cross_norm.double() * (adjoint + 8 * eps * size)
    slope = rows.length(solution.certificate.gradient)
    allowance = solution.certificate.allowance * x[0].numel() ** 0.5
    noise = size * (allowance + 8 * eps * slope)
    value = _times(drift / 2 + residual + change.hessian.double(), safe) + noise
    plain = _times(rows.length(rhs) * (1 + 8 * eps) + drift / 2, shown)
    correction = rows.inner(q.double(), solution.certificate.gradient.double()).abs()
    proved = torch.isfinite(radius) & (mu > 0)
    value = torch.where(proved, value, torch.inf)
    value = torch.fmin(value, plain + correction * (1 + 1e-12))
    met = rows.inner(q, rhs).double() / size.square()
    near = torch.where(met > 0, torch.minimum(slope / met, radius), radius)
    return ErrorBounds(
        gradient=torch.where(proved & (change.cross < torch.inf), gradient, torch.inf),
        value=torch.where(torch.isfinite(off), value, torch.inf),
        value_estimate=_times(upper.drift(x, near) / 2 + residual, near) + noise,
    )


def _times(bound: Tensor, distance: Tensor) -> Tensor:
    """The product, 0 at no distance even of what is not bounded."""
    return torch.where(distance > 0, bound * distance, 0.0)


def count_kinks(lower: Objective, solution: Solution) -> Tensor:
    """At most how many features may change piece within the certified distance, (b,) float64.

    With 0, J is twice continuously differentiable around x̂, and a hypergradient is the derivative.
    Otherwise a feature may sit on a kink at x̂: the Hessian used is then an element of the
    conservative Jacobian (Bolte, Le, Pauwels, Silveti-Falls 2021), and so is what follows from it.
    Infinite where no distance is certified or the energy cannot tell.
    """
    x = solution.x
    distance = solution.certificate.distance(lower.image(x))
    certified = torch.isfinite(distance)
    radius = torch.where(certified, distance, 0.0)
    return torch.where(certified, lower.smoothness(x, radius).kinks, torch.inf)
