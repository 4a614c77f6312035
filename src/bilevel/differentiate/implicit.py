"""The implicit hypergradient: one linear system with the Hessian of the lower level."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.differentiate.error_bounds import implicit_bounds
from bilevel.differentiate.hypergradient import HyperGradient, Hypergradient
from bilevel.differentiate.kinks import count_kinks
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows, theta
from bilevel.ground.checks import check_choice
from bilevel.ground.theta import Theta
from bilevel.linear import LinearMap, LinearSolution, LinearStatus, cg, minres
from bilevel.model.objective import Objective
from bilevel.solve import Solution

__all__ = ["Implicit", "solve_adjoint"]

SOLVERS = {"cg": cg, "minres": minres}


def solve_adjoint(
    name: str,
    hessian: LinearMap,
    rhs: Tensor,
    *,
    rtol: Tensor | float,
    start: Tensor | None = None,
    max_steps: int = 1000,
) -> LinearSolution:
    """Solve H q = rhs row by row with the linear solver of that name, "cg" or "minres"."""
    return SOLVERS[name](hessian, rhs, rtol=rtol, x0=start, max_steps=max_steps)


@dataclass(frozen=True)
class Implicit(Hypergradient):
    """∇F = -Bᵀ H⁻¹ ∇ℓ at the computed point, from the implicit function theorem.

    A row whose system breaks down (negative curvature, for one) contributes neither gradient nor
    correction; it is named in ``unsolved`` and nothing is proved about it.

    Without ``rtol`` the adjoint system is solved as accurately as the certificate of x deserves.

    Args:
        linear: "cg" for positive definite H (convex energies; it notices negative curvature) or
            "minres" for symmetric indefinite H (non-convex energies).
        max_steps: limit of the linear solver.

    Raises:
        InputError: an unknown linear solver.

    Example:
        >>> Implicit("minres").linear
        'minres'
    """

    linear: str = "cg"
    max_steps: int = 1000

    def __post_init__(self) -> None:
        """Check the options."""
        check_choice(self.linear, SOLVERS, "linear solver")

    def __call__(
        self,
        lower: Objective,
        upper: Upper,
        solution: Solution,
        *,
        rtol: float | None = None,
        start: Tensor | None = None,
        estimate: bool = False,
    ) -> HyperGradient:
        """Hypergradient of the mean over rows, with its bound (arXiv 2301.04764, sharpened)."""
        x = solution.x
        upper.check(x)
        accuracy = _balanced(upper, solution) if rtol is None else rtol
        rhs = upper.grad(x)
        adjoint = self._solve(lower.hessian(x), rhs, accuracy, start)
        usable = _usable(adjoint)
        q = torch.where(rows.expand(usable, x), adjoint.x, 0.0)
        grad = _mean_cross(lower, x, q)
        bounds = implicit_bounds(lower, solution, q, rhs, adjoint.residual, upper)
        value = upper.double().value(x.double())
        return HyperGradient(
            value=value,
            corrected=value - rows.inner(q.double(), solution.certificate.gradient.double()),
            interval=torch.where(usable, bounds.value, torch.inf),
            interval_estimate=bounds.value_estimate,
            grad=grad,
            error=torch.where(usable, bounds.gradient, torch.inf),
            estimate=self._estimate(lower, upper, solution, q, grad) if estimate else math.nan,
            linear=replace(adjoint, x=q),
            unsolved=~usable,
            kinks=count_kinks(lower, solution),
        )

    def _solve(
        self, hessian: LinearMap, rhs: Tensor, rtol: Tensor | float, start: Tensor | None = None
    ) -> LinearSolution:
        return solve_adjoint(
            self.linear, hessian, rhs, rtol=rtol, start=start, max_steps=self.max_steps
        )

    def _estimate(
        self, lower: Objective, upper: Upper, solution: Solution, q: Tensor, grad: Theta
    ) -> float:
        """‖z - z⁺‖, with x⁺ one Newton step on and q⁺ corrected there, both to a tenth."""
        newton = self._solve(lower.hessian(solution.x), solution.certificate.gradient, 0.1)
        x = solution.x - newton.x
        hessian = lower.hessian(x)
        correction = self._solve(hessian, upper.grad(x) - hessian(q), 0.1)
        finer = _mean_cross(lower, x, q + correction.x)
        return theta.norm(theta.add(grad, finer, -1.0))


def _usable(adjoint: LinearSolution) -> Tensor:
    """Rows that were solved, or nearly: (b,) bool."""
    nearly = (LinearStatus.CONVERGED, LinearStatus.MAX_STEPS, LinearStatus.STALLED)
    return torch.stack([adjoint.status == status for status in nearly]).any(0)


def _balanced(upper: Upper, solution: Solution) -> Tensor:
    """Residual L_ℓ ε: the error that ∇ℓ has anyway; at most a tenth of ‖∇ℓ‖."""
    x, reached = solution.x, solution.certificate
    rms = torch.where(torch.isfinite(reached.rms), reached.rms, reached.residual)
    distance = rms.double() * x[0].numel() ** 0.5
    error = upper.lipschitz(x, distance) * distance
    size = rows.norm(upper.grad(x)).double()
    return (error / size.clamp_min(1e-300)).clamp(1e-12, 0.1)


def _mean_cross(lower: Objective, x: Tensor, q: Tensor) -> Theta:
    total = lower.cross_vjp(x, q)
    return {name: -value / x.shape[0] for name, value in total.items()}
