"""The adjoint of saddle problems: one symmetric system from their optimality conditions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import broken, usable
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, derivative, leaves
from bilevel.linear import LinearSolution, minres
from bilevel.model.linearised import LinearisedSaddle, linearise
from bilevel.model.saddle import Dual, SaddleObjective
from bilevel.solve import Solution
from bilevel.solve.solvers.pdhg import PDHG, PDHGState

__all__ = ["SaddleAdjoint", "dual_of", "refined_saddle_gradient", "solve_saddle_adjoint"]

_FURTHER = 1000


@dataclass(frozen=True)
class SaddleAdjoint:
    """(X, Y) for the slopes given; ``linear.x`` is X, ``linear.residual`` that of both equations.

    Rows that broke down are zero, and so is their ``slope``.
    """

    linearised: LinearisedSaddle
    slope: Tensor
    dual: Dual
    linear: LinearSolution

    def pairing(self, moving: SaddleObjective) -> Tensor:
        """A number whose derivative by θ or y is that of Σ_k ⟨slope_k, x̂_k⟩.

        ``moving`` is the objective with that θ and y on a tape.
        """
        return self.linearised.pairing(moving, self.slope, self.linear.x, self.dual)

    def mean_gradient(self) -> Theta:
        """The derivative by the learnable θ, the mean over rows."""
        lower = self.linearised.objective
        with torch.enable_grad():
            learnable = leaves(lower.theta)
            total = derivative(self.pairing(lower.taped(learnable)), learnable)
        return {name: value / len(self.slope) for name, value in total.items()}


def solve_saddle_adjoint(
    lower: SaddleObjective,
    x: Tensor,
    p: Dual,
    slope: Tensor,
    *,
    rtol: float | Tensor,
    distance: Tensor | None = None,
    max_steps: int = 5000,
) -> SaddleAdjoint:
    """The adjoint at the solution (x, p) for an upstream gradient ``slope``, by MINRES.

    Done where the residual of :class:`LinearisedSaddle`, scaled, is at most ``rtol`` ‖slope‖;
    one HVP a step. ``distance`` (b,), of x to the minimiser, serves to count what is undecided.
    """
    if distance is None:
        distance = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    at = linearise(lower, x, p, distance)
    nothing = tuple(torch.zeros_like(part) for part in p)
    accuracy = torch.as_tensor(rtol).to(distance) * rows.length(slope)
    rhs = at.pack(at.free * slope, nothing)
    found = usable(minres(at.system, rhs, atol=accuracy, max_steps=max_steps))
    image, dual = at.unpack(found.x)
    slope = torch.where(rows.expand(broken(found), slope), 0.0, slope)
    return SaddleAdjoint(at, slope, dual, replace(found, x=image))


def dual_of(solution: Solution, name: str) -> Dual:
    """The dual variables that PDHG found with the solution.

    Raises:
        InputError: the solution does not carry a state of PDHG.
    """
    state = solution.state
    if not isinstance(state, PDHGState):
        advice = (
            "solve with minimise(objective, PDHG(), ..., keep_state=True), or, where a term is "
        )
        advice += "a power of a gradient, take regularisers.DirectionalTV"
        raise InputError(f"{name} needs the final state of PDHG", advice=advice)
    return state.dual


def refined_saddle_gradient(lower: SaddleObjective, upper: Upper, x: Tensor, p: Dual) -> Theta:
    """The hypergradient 1000 steps of PDHG, not accelerated, on from (x, p), for estimates."""
    solver = PDHG(acceleration=0.0)
    with torch.no_grad():
        state = replace(solver.init(lower, x), dual=p, relaxed_dual=p)
        for _ in range(_FURTHER):
            state = solver.step(lower, state)
    slope = upper.grad(state.x)
    return solve_saddle_adjoint(lower, state.x, state.dual, slope, rtol=1e-6).mean_gradient()
