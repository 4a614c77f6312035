"""What the methods that differentiate the solver's steps share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import refined_gradient
from bilevel.differentiate.hypergradient import Asked, UpperGradient
from bilevel.differentiate.saddle_adjoint import refined_saddle_gradient
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows, theta
from bilevel.ground.checks import check_count
from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.theta import Theta
from bilevel.linear import LinearMap, LinearSolution, minres
from bilevel.model.kinds import by_kind
from bilevel.model.objective import Curved, Objective
from bilevel.model.saddle import Dual, SaddleObjective
from bilevel.solve import Certificate, Solver

__all__ = ["as_hypergradient", "check_solver"]


def check_solver(solver: Solver[Any], steps: int) -> None:
    """Raise InputError unless ``solver`` can be differentiated for a positive number of steps."""
    check_count(steps, "steps")
    if not solver.differentiable:
        advice = "use GradientDescent(), Nesterov(), FISTA() or PDHG()"
        raise InputError("this solver cannot be differentiated", given=solver, advice=advice)


def as_hypergradient(
    lower: Objective,
    asked: Asked,
    x: Tensor,
    grad: Theta,
    certificate: Certificate,
    dual: Dual | None,
) -> UpperGradient:
    """``grad`` found at x: its value has an interval from the certificate, the gradient no bound.

    |ℓ(x) - ℓ(x̂)| <= ‖∇ℓ(x)‖ ε + L_ℓ ε²/2. Estimates of saddle problems start from (x, ``dual``).

    Raises:
        NotCertified: the iterates or their derivatives became infinite.
    """
    upper, entries = asked.upper, [x, *grad.values()]
    if not all(bool(torch.isfinite(t).all()) for t in entries):
        advice = "use more accurate starts, fewer steps, or Implicit()"
        raise NotCertified(f"the differentiated steps became infinite; {advice}")
    interval = _interval(upper, x, certificate.distance_of_image(lower.image(x)))
    value = upper.double().value(x.double())
    error = math.nan
    if asked.estimate:
        refined = _refined(lower, upper, x, certificate, dual)
        error = theta.norm(theta.add(grad, refined, -1.0))
    return UpperGradient(
        value=value,
        corrected=value,
        interval=interval,
        interval_estimate=interval,
        grad=grad,
        error=torch.full_like(interval, torch.inf),
        estimate=error,
        linear=None,
        unsolved=torch.zeros_like(interval, dtype=torch.bool),
        count=lambda: torch.full_like(interval, torch.inf),
    )


def _interval(upper: Upper, x: Tensor, radius: Tensor) -> Tensor:
    safe = torch.where(torch.isfinite(radius), radius, 0.0)
    pull = rows.length(upper.grad(x)) + upper.drift(x, safe) / 2
    proved = torch.where(safe > 0, pull * safe, 0.0)
    return torch.where(torch.isfinite(radius), proved, torch.inf)


def _refined(
    lower: Objective, upper: Upper, x: Tensor, certificate: Certificate, dual: Dual | None
) -> Theta:
    def curved(j: Curved) -> Theta:
        start = torch.zeros_like(x)
        return refined_gradient(j, upper, x, certificate.gradient, start, _closely)

    def saddle(j: SaddleObjective) -> Theta:
        return refined_saddle_gradient(j, upper, x, j.dual(x) if dual is None else dual)

    return by_kind(lower, smooth=curved, composite=curved, saddle=saddle)


def _closely(hessian: LinearMap, rhs: Tensor) -> LinearSolution:
    return minres(hessian, rhs, rtol=1e-6)
