"""The implicit hypergradient: one linear system with the Hessian of the lower level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from bilevel.differentiate.adjoint import AdjointMethod
from bilevel.linear import LinearMap, LinearSolution, LinearSolver, linear_solver
from bilevel.model.objective import Curved
from bilevel.solve import Solution

__all__ = ["Implicit"]


@dataclass(frozen=True)
class Implicit(AdjointMethod):
    """One linear system with the Hessian, by the implicit function theorem; its error is bounded.

    ∇F = -Bᵀ H⁻¹ ∇ℓ at the computed point, from the implicit function theorem.

    Without ``rtol`` the adjoint system is solved as accurately as the certificate of x deserves.

    Args:
        linear: "symmetric" for every H: conjugate gradients, and MINRES for samples in which these
            meet negative curvature (energies that are not convex); "cg" or "minres" for one alone,
            or a linear solver.
        max_steps: limit of the linear solver.

    Raises:
        InputError: an unknown linear solver.

    Example:
        >>> Implicit("minres").linear
        'minres'
    """

    linear: LinearSolver | Literal["symmetric", "cg", "minres"] = "symmetric"
    max_steps: int = 1000

    def __post_init__(self) -> None:
        """Check the options."""
        linear_solver(self.linear)

    def adjoint(
        self, lower: Curved, solution: Solution, rhs: Tensor, rtol: Tensor, start: Tensor | None
    ) -> LinearSolution:
        """By the linear solver, to the residual asked for."""
        solve, hessian = linear_solver(self.linear), lower.hessian(solution.x)
        return solve(hessian, rhs, rtol=rtol, x0=start, max_steps=self.max_steps)

    def refine(self, hessian: LinearMap, rhs: Tensor) -> LinearSolution:
        """By the same linear solver."""
        return linear_solver(self.linear)(hessian, rhs, rtol=0.1, max_steps=self.max_steps)
