"""One-step hypergradients: the derivative of the last gradient step alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import AdjointMethod, curvature_range
from bilevel.linear import LinearSolution, neumann
from bilevel.model.objective import Curved
from bilevel.solve import Solution

__all__ = ["JacobianFree"]


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
        lipschitz, mu = curvature_range(lower, "JacobianFree")
        step = torch.where(mu > 0, 2 / (lipschitz + mu), 1 / lipschitz)
        return neumann(lower.hessian(solution.x), rhs, step=step, terms=1, rtol=rtol)
