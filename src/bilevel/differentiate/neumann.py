"""Hypergradients by a truncated Neumann series of the inverse Hessian."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bilevel.differentiate.adjoint import AdjointMethod, curvature_range
from bilevel.ground.errors import InputError
from bilevel.linear import LinearSolution, neumann
from bilevel.model.objective import Curved
from bilevel.solve import Solution

__all__ = ["Neumann"]


@dataclass(frozen=True)
class Neumann(AdjointMethod):
    """Some terms of a Neumann series for the inverse Hessian.

    q_K = (1/L) Σ_{i<K} (I - H/L)^i ∇ℓ, with ‖q_K - q‖ <= (1 - 1/κ)^K ‖∇ℓ‖/mu from a zero start.

    (Lorraine, Vicol and Duvenaud 2020, section 3.) One HVP a term; a row that has reached the
    accuracy asked for earlier stops. The bound uses the computed residual, which is never above
    that rate. It needs H >= 0: a residual that grows is told as negative curvature.

    Args:
        terms: K.

    Raises:
        InputError: no terms, or (when called) no Lipschitz constant.

    Example:
        >>> Neumann(20)
        Neumann(terms=20)
    """

    terms: int

    def __post_init__(self) -> None:
        """Check the options."""
        if self.terms < 1:
            raise InputError("Neumann needs at least one term", given=self.terms)

    def adjoint(
        self, lower: Curved, solution: Solution, rhs: Tensor, rtol: Tensor, start: Tensor | None
    ) -> LinearSolution:
        """The terms of the series with step 1/L."""
        lipschitz, _ = curvature_range(lower, "Neumann")
        hessian = lower.hessian(solution.x)
        return neumann(hessian, rhs, step=1 / lipschitz, terms=self.terms, rtol=rtol, x0=start)
