"""Hypergradients by a truncated Neumann series of the inverse Hessian, down to its first term."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import AdjointMethod
from bilevel.ground.checks import check_count
from bilevel.linear import LinearSolution, neumann
from bilevel.model.objective import Curved
from bilevel.solve import Solution
from bilevel.solve.solver import curvature_range

__all__ = ["JacobianFree", "Neumann"]


_ADVICE = "override bounds(), or use Implicit()"


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
        check_count(self.terms, "terms")

    def adjoint(
        self, lower: Curved, solution: Solution, rhs: Tensor, rtol: Tensor, start: Tensor | None
    ) -> LinearSolution:
        """The terms of the series with step 1/L."""
        lipschitz, _ = curvature_range(lower, "Neumann", _ADVICE)
        hessian = lower.hessian(solution.x)
        return neumann(hessian, rhs, step=1 / lipschitz, terms=self.terms, rtol=rtol, x0=start)


@dataclass(frozen=True)
class JacobianFree(AdjointMethod):
    """One gradient step in place of the inverse Hessian: the cheapest, and biased.

    q = s ∇ℓ: the Jacobian of one gradient step of length s = 2/(L + mu) in place of the inverse.

    The residual is at most ρ ‖∇ℓ‖ with ρ = (κ - 1)/(κ + 1) (Fung et al. 2022; Bolte, Pauwels and
    Vaiter 2023). The single HVP is spent on the true residual, for the bound.

    Raises:
        InputError: no Lipschitz constant (when called).

    Example:
        >>> JacobianFree()
        JacobianFree()
    """

    def adjoint(
        self, lower: Curved, solution: Solution, rhs: Tensor, rtol: Tensor, start: Tensor | None
    ) -> LinearSolution:
        """One term from zero: a start would be no one-step derivative."""
        del start
        lipschitz, mu = curvature_range(lower, "JacobianFree", _ADVICE)
        step = torch.where(mu > 0, 2 / (lipschitz + mu), 1 / lipschitz)
        return neumann(lower.hessian(solution.x), rhs, step=step, terms=1, rtol=rtol)
