"""Hypergradients of the form -Bᵀq: they differ in how they find q ≈ H⁻¹∇ℓ, and in nothing else."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bilevel.differentiate.error_bounds import count_kinks, implicit_bounds
from bilevel.differentiate.hypergradient import Asked, Method, UpperGradient
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows, theta
from bilevel.ground.theta import Theta
from bilevel.linear import LinearMap, LinearSolution, LinearStatus, minres
from bilevel.model.kinds import required
from bilevel.model.objective import Curved, Objective
from bilevel.solve import Solution

__all__ = [
    "AdjointMethod",
    "broken",
    "mean_cross",
    "refined_gradient",
    "relative_residual",
    "roughly",
    "usable",
    "with_bounds",
    "with_estimate",
]


class AdjointMethod(Method):
    """z = -B(x)ᵀq, whose error is bounded by the true residual of q, however q was found.

    A row whose q broke down (negative curvature, for one) contributes neither gradient nor
    correction; it is named in ``unsolved`` and nothing is proved about it.
    """

    @abstractmethod
    def adjoint(
        self, lower: Curved, solution: Solution, rhs: Tensor, rtol: Tensor, start: Tensor | None
    ) -> LinearSolution:
        """q ≈ H(x)⁻¹ rhs with its residual recomputed; ``rtol`` (b,) is what would do."""

    def refine(self, hessian: LinearMap, rhs: Tensor) -> LinearSolution:
        """H⁻¹ rhs to a tenth, for the estimate."""
        return roughly(hessian, rhs)

    def found(self, lower: Objective, asked: Asked) -> UpperGradient:
        """Hypergradient of the mean over rows, with its bound (arXiv 2301.04764, sharpened)."""
        upper, solution = asked.upper, asked.solution
        advice = "use Piggyback(), or EquilibriumPropagation()"
        curved = required(lower, Curved, "an adjoint system", advice=advice)
        rhs, accuracy = upper.grad(solution.x), relative_residual(asked)
        adjoint = usable(self.adjoint(curved, solution, rhs, accuracy, asked.start))
        grad = mean_cross(curved, solution.x, adjoint.x)
        found = with_bounds(curved, upper, solution, adjoint, grad)
        if not asked.estimate:
            return found
        return with_estimate(found, curved, upper, solution, adjoint, self.refine)


def roughly(hessian: LinearMap, rhs: Tensor) -> LinearSolution:
    """H⁻¹ rhs to a tenth."""
    return minres(hessian, rhs, rtol=0.1)


def usable(adjoint: LinearSolution) -> LinearSolution:
    """The same with q = 0 in the rows that broke down."""
    kept = ~broken(adjoint)
    return replace(adjoint, x=torch.where(rows.expand(kept, adjoint.x), adjoint.x, 0.0))


def broken(adjoint: LinearSolution) -> Tensor:
    """Rows that were not even nearly solved: (b,) bool."""
    nearly = (LinearStatus.CONVERGED, LinearStatus.MAX_STEPS, LinearStatus.STALLED)
    return ~torch.stack([adjoint.status == status for status in nearly]).any(0)


def with_bounds(
    lower: Objective,
    upper: Upper,
    solution: Solution,
    adjoint: LinearSolution,
    grad: Theta,
    drift: Tensor | float = 0.0,
) -> UpperGradient:
    """The hypergradient ``grad`` with what is proved of it; ``drift`` (b,) >= ‖grad + B(x)ᵀq‖."""
    x, q, lost = solution.x, adjoint.x, broken(adjoint)
    bounds = implicit_bounds(lower, solution, q, upper.grad(x), adjoint.residual, upper)
    value = upper.double().value(x.double())
    correction = rows.inner(q.double(), solution.certificate.gradient.double())
    noise = 16 * torch.finfo(torch.float64).eps * (value.abs() + correction.abs())
    return UpperGradient(
        value=value,
        corrected=value - correction,
        interval=torch.where(lost, torch.inf, bounds.value + noise),
        interval_estimate=bounds.value_estimate,
        grad=grad,
        error=torch.where(lost, torch.inf, bounds.gradient + drift),
        estimate=math.nan,
        linear=adjoint,
        unsolved=lost,
        count=lambda: count_kinks(lower, solution),
    )


def with_estimate(
    found: UpperGradient,
    lower: Curved,
    upper: Upper,
    solution: Solution,
    adjoint: LinearSolution,
    refine: Callable[[LinearMap, Tensor], LinearSolution],
) -> UpperGradient:
    """The same with the distance to the refined gradient as an estimate of its error."""
    slope = solution.certificate.gradient
    refined = refined_gradient(lower, upper, solution.x, slope, adjoint.x, refine)
    return replace(found, estimate=theta.norm(theta.add(found.grad, refined, -1.0)))


def refined_gradient(
    lower: Curved,
    upper: Upper,
    x: Tensor,
    gradient: Tensor,
    q: Tensor,
    refine: Callable[[LinearMap, Tensor], LinearSolution],
) -> Theta:
    """The hypergradient one Newton step on from x, with q corrected there, both by ``refine``."""
    x = lower.project(x - refine(lower.hessian(x), gradient).x)
    hessian = lower.hessian(x)
    correction = refine(hessian, upper.grad(x) - hessian(q))
    return mean_cross(lower, x, q + correction.x)


def relative_residual(asked: Asked) -> Tensor:
    """``rtol`` for every row, or L_ℓ ε: the error that ∇ℓ has anyway; at most a tenth of ‖∇ℓ‖.

    Where no L_ℓ is known, the change of ∇ℓ at the distance ε along itself takes its place.
    """
    upper, x, reached = asked.upper, asked.solution.x, asked.solution.certificate
    if asked.rtol is not None:
        return torch.full((len(x),), asked.rtol, dtype=torch.float64, device=x.device)
    rms = torch.where(torch.isfinite(reached.rms), reached.rms, reached.residual)
    distance = rms.double() * x[0].numel() ** 0.5
    size, error = rows.length(upper.grad(x)), upper.drift(x, distance)
    if not bool(torch.isfinite(error).all()):
        change = upper.steepness(x, distance) * distance
        error = torch.where(torch.isfinite(error), error, change)
    return (error / size.clamp_min(1e-300)).clamp(1e-12, 0.1)


def mean_cross(lower: Curved, x: Tensor, q: Tensor) -> Theta:
    """-B(x)ᵀq, the mean over rows."""
    total = lower.cross_vjp(x, q)
    return {name: -value / x.shape[0] for name, value in total.items()}
