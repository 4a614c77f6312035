"""SHINE: the inverse Hessian that the forward solve learned, used again for the adjoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import AdjointMethod
from bilevel.ground.errors import InputError
from bilevel.linear import LinearSolution, LinearSolver, linear_solver
from bilevel.model.kinds import required
from bilevel.model.objective import Curved
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve import Solution
from bilevel.solve.solvers.lbfgs import LBFGSState

__all__ = ["Shine"]


@dataclass(frozen=True)
class Shine(AdjointMethod):
    """The inverse Hessian that L-BFGS learned in the forward solve, refined if asked.

    q = H_k ∇ℓ with the L-BFGS inverse H_k of the forward solve (Ramzi et al. 2022).

    ``steps`` steps of a linear solver may refine it. Without them, the one HVP spent gives the
    true residual, for the bound.

    Args:
        steps: of refinement, at most.
        linear: "cg", "minres" for non-convex energies, or a linear solver.

    Raises:
        InputError: an unknown linear solver, steps < 0, or (when called) a solution that does
            not carry a state of L-BFGS.

    Example:
        >>> Shine(steps=5).needs_state
        True
    """

    needs_state: ClassVar[bool] = True

    steps: int = 0
    linear: LinearSolver | Literal["cg", "minres"] = "cg"

    def __post_init__(self) -> None:
        """Check the options."""
        linear_solver(self.linear)
        if self.steps < 0:
            raise InputError("steps must not be negative", given=self.steps)

    def adjoint(
        self, lower: Curved, solution: Solution, rhs: Tensor, rtol: Tensor, start: Tensor | None
    ) -> LinearSolution:
        """H_k ∇ℓ, refined."""
        del start
        required(lower, SmoothObjective, "SHINE", advice="use Implicit()")
        state = solution.state
        if not isinstance(state, LBFGSState):
            advice = "solve with minimise(objective, LBFGS(), ..., keep_state=True)"
            raise InputError("Shine needs the final state of L-BFGS", advice=advice)
        with torch.no_grad():
            first = state.memory.apply(rhs)
        solve, hessian = linear_solver(self.linear), lower.hessian(solution.x)
        return solve(hessian, rhs, rtol=rtol, x0=first, max_steps=self.steps)
