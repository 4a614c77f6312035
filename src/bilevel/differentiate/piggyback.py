"""Hypergradients of saddle problems, exact total variation among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bilevel.differentiate.adjoint import broken, relative_residual
from bilevel.differentiate.hypergradient import Asked, Method, UpperGradient
from bilevel.differentiate.iterates import as_hypergradient
from bilevel.differentiate.saddle_adjoint import dual_of, solve_saddle_adjoint
from bilevel.model.kinds import required
from bilevel.model.objective import Objective
from bilevel.model.saddle import SaddleObjective

__all__ = ["Piggyback"]


@dataclass(frozen=True)
class Piggyback(Method):
    """The adjoint saddle problem: for exact total variation and other dual terms.

    The adjoint saddle problem of J = f + h + Σ_j F_j(A_j x) (Chambolle and Pock 2021).

    The adjoint (X, Y) minimises ½⟨X, H X⟩ - ⟨∇ℓ, X⟩ plus the curvature of the lengths that jump,
    over images X that are flat where x̂ is. Chambolle and Pock solve it by the primal-dual
    iteration itself, next to that of x; MINRES on its symmetric optimality system gets there in
    fewer HVPs (docs/decisions/0010). Which features jump is read off the final (x, p) of PDHG.

    Where strict complementarity holds, x̂ is differentiable and the result converges to the
    gradient with (x, p) and the residual. Nothing is proved about it: ``error`` and ``kinks`` are
    inf. Only the ``interval`` is proved.

    Args:
        max_steps: limit of MINRES.

    Raises:
        InputError: (when called) an objective without dual terms, or a solution that does not
            carry a state of PDHG.

    Example:
        >>> Piggyback().needs_state
        True
    """

    needs_state: ClassVar[bool] = True

    max_steps: int = 5000

    def found(self, lower: Objective, asked: Asked) -> UpperGradient:
        """Hypergradient of the mean over rows; a start saves nothing here and is ignored."""
        upper, solution = asked.upper, asked.solution
        saddle = required(lower, SaddleObjective, "Piggyback", advice="use Implicit()")
        x, dual, certificate = solution.x, dual_of(solution, "Piggyback"), solution.certificate
        adjoint = solve_saddle_adjoint(
            saddle,
            x,
            dual,
            upper.grad(x),
            rtol=relative_residual(asked),
            distance=certificate.distance(saddle.image(x)),
            max_steps=self.max_steps,
        )
        grad = adjoint.mean_gradient()
        found = as_hypergradient(lower, asked, x, grad, certificate, dual)
        return replace(found, linear=adjoint.linear, unsolved=broken(adjoint.linear))
