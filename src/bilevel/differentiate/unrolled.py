"""Hypergradients of the solver's own steps, by reverse mode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from bilevel.differentiate.hypergradient import Asked, Method, UpperGradient
from bilevel.differentiate.iterates import as_hypergradient, check_solver
from bilevel.ground.checks import check_count
from bilevel.ground.theta import derivative, leaves
from bilevel.model.kinds import required
from bilevel.model.objective import Objective
from bilevel.solve import Solver, certify
from bilevel.solve.solvers import GradientDescent

__all__ = ["Unrolled"]


@dataclass(frozen=True)
class Unrolled(Method):
    """Backpropagation through more steps of a solver.

    d ℓ(x_K)/dθ where x_K is ``steps`` solver steps on from the solution given.

    Only the last ``truncate`` steps are differentiated: the bias falls like ρ^truncate, ρ the rate
    of the solver, whatever the start (Shaban et al. 2019). To unroll a whole solve, hand on the
    solution of no steps, ``minimise(..., max_steps=0)``. Step sizes count as constants. Nothing is
    proved about the gradient.

    Args:
        steps: K.
        solver: gradient descent, Nesterov, or FISTA and PDHG where these fit.
        truncate: steps that are differentiated; None: all.
        checkpoint: keep only every so many states on the tape and compute the others again, so
            that memory is that of K/checkpoint + checkpoint steps; None: keep all.

    Raises:
        InputError: steps that are not positive, or a solver that cannot be differentiated.

    Example:
        >>> Unrolled(100, truncate=20).truncate
        20
    """

    steps: int
    solver: Solver[Any] = field(default_factory=GradientDescent)
    truncate: int | None = None
    checkpoint: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        check_solver(self.solver, self.steps)
        check_count(self.truncate, "truncate")
        check_count(self.checkpoint, "checkpoint")

    def found(self, lower: Objective, asked: Asked) -> UpperGradient:
        """Hypergradient of the mean over rows at x_K; no linear system, hence no tolerance."""
        lower = required(lower, self.solver.takes, type(self.solver).__name__)
        taped = self.steps if self.truncate is None else min(self.truncate, self.steps)
        with torch.no_grad():
            state = self.solver.init(lower, asked.solution.x)
            for _ in range(self.steps - taped):
                state = self.solver.step(lower, state)
        with torch.enable_grad():
            learnable = leaves(lower.theta)
            state = self._recorded(lower.taped(learnable), state, taped)
            slopes = derivative(asked.upper.value(state.x).mean(), learnable)
        x, dual = state.x.detach(), self.solver.dual(state)
        dual = None if dual is None else tuple(p.detach() for p in dual)
        found = certify(lower, x, dual=dual)
        return as_hypergradient(lower, asked, x, slopes, found, dual)

    def _recorded(self, lower: Objective, state: Any, steps: int) -> Any:
        def run(state: Any, count: int) -> Any:
            for _ in range(count):
                state = self.solver.step(lower, state)
            return state

        if self.checkpoint is None:
            return run(state, steps)
        for done in range(0, steps, self.checkpoint):
            count = min(self.checkpoint, steps - done)
            state = cast(Any, checkpoint(run, state, count, use_reentrant=False))
        return state
