"""Hypergradients of saddle problems: the adjoint of the primal-dual optimality conditions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import broken, relative_residual, usable
from bilevel.differentiate.hypergradient import HyperGradient, Hypergradient
from bilevel.differentiate.iterates import value_interval
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows, theta
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, derivative, leaves
from bilevel.linear import LinearSolution, minres
from bilevel.model.linearised import LinearisedSaddle, linearise
from bilevel.model.objective import Objective
from bilevel.model.saddle import Dual, SaddleObjective
from bilevel.solve import Solution
from bilevel.solve.solvers.pdhg import PDHG, PDHGState

__all__ = ["Piggyback", "SaddleAdjoint", "solve_saddle_adjoint"]


@dataclass(frozen=True)
class SaddleAdjoint:
    """(X, Y) for the slopes given; ``linear.x`` is X, ``linear.residual`` that of the system."""

    linearised: LinearisedSaddle
    slope: Tensor
    dual: Dual
    linear: LinearSolution

    def pairing(self, moving: SaddleObjective) -> Tensor:
        """A number whose derivative by what is on the tape of ``moving`` is that of Σ ⟨slope, x̂⟩.

        Rows that broke down count as zero.
        """
        return self.linearised.pairing(moving, self.slope, self.linear.x, self.dual)


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

    Done where the residual of the (scaled) system is at most ``rtol`` ‖slope‖; one HVP a step.
    ``distance`` (b,), of x to the minimiser, only serves to count what is undecided.
    """
    zero = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    at = linearise(lower, x, p, zero if distance is None else distance)
    nothing = tuple(torch.zeros_like(part) for part in p)
    size = rows.norm(slope).double() * torch.as_tensor(rtol).to(zero)
    rhs = at.pack(at.free * slope, nothing)
    found = usable(minres(at.system, rhs, atol=size, max_steps=max_steps))
    image, dual = at.unpack(found.x)
    slope = torch.where(rows.expand(broken(found), slope), 0.0, slope)
    return SaddleAdjoint(at, slope, dual, replace(found, x=image))


@dataclass(frozen=True)
class Piggyback(Hypergradient):
    """x

    Args:
        max_steps: limit of the linear solver.
    """

    needs_state: ClassVar[bool] = True

    max_steps: int = 5000

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
        """Hypergradient of the mean over rows."""
        del start
        upper.check(solution.x)
        if not isinstance(lower, SaddleObjective):
            what = "Piggyback differentiates energies with exact total variation or another dual term"
            raise InputError(f"{what}, and this one has none", advice="use Implicit()")
        state = solution.state
        if not isinstance(state, PDHGState):
            advice = "solve with minimise(objective, PDHG(), ..., keep_state=True)"
            raise InputError("Piggyback needs the final state of PDHG", advice=advice)
        x, rms = solution.x, solution.certificate.rms
        distance = rms * x[0].numel() ** 0.5
        accuracy = relative_residual(upper, solution, rtol)
        adjoint = solve_saddle_adjoint(
            lower, x, state.dual, upper.grad(x), rtol=accuracy, distance=distance, max_steps=self.max_steps
        )
        grad = _mean_gradient(lower, adjoint)
        value, interval = upper.double().value(x.double()), value_interval(upper, x, rms)
        count = adjoint.linearised.doubtful
        return HyperGradient(
            value=value,
            corrected=value,
            interval=interval,
            interval_estimate=interval,
            grad=grad,
            error=torch.full_like(interval, torch.inf),
            estimate=math.nan,
            linear=adjoint.linear,
            unsolved=broken(adjoint.linear),
            count=lambda: count,
        )


def _mean_gradient(lower: SaddleObjective, adjoint: SaddleAdjoint) -> Theta:
    with torch.enable_grad():
        learnable = leaves(lower.theta)
        total = derivative(adjoint.pairing(lower.taped(learnable)), learnable)
    return {name: value / len(adjoint.slope) for name, value in total.items()}
