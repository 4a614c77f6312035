"""What the methods that differentiate the solver's steps share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import refined_gradient
from bilevel.differentiate.hypergradient import HyperGradient
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows, theta
from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.theta import Theta
from bilevel.linear import LinearMap, LinearSolution, minres
from bilevel.model.objective import Objective
from bilevel.model.saddle import Dual
from bilevel.solve import Solver, certify

__all__ = ["as_hypergradient", "check_solver", "value_interval"]


def check_solver(solver: Solver[Any], steps: int) -> None:
    """Raise InputError unless ``solver`` can be differentiated for a positive number of steps."""
    if steps < 1:
        raise InputError("there must be at least one step to differentiate", given=steps)
    if not solver.differentiable:
        advice = "use GradientDescent() or Nesterov()"
        raise InputError("this solver cannot be differentiated", given=solver, advice=advice)


def as_hypergradient(
    lower: Objective,
    upper: Upper,
    x: Tensor,
    grad: Theta,
    *,
    estimate: bool,
    dual: Dual | None = None,
) -> HyperGradient:
    """``grad`` at the last iterate x: its value has an interval, the gradient no bound.

    The interval is that of :func:`value_interval`, certified afresh with the ``dual`` variables.

    Raises:
        NotCertified: the iterates or their derivatives became infinite.
    """
    entries = [x, *grad.values()]
    if not all(bool(torch.isfinite(t).all()) for t in entries):
        advice = "use more accurate starts, fewer steps, or Implicit()"
        raise NotCertified(f"the differentiated steps became infinite; {advice}")
    found = certify(lower, x, dual=dual)
    interval = value_interval(upper, x, found.rms)
    value = upper.double().value(x.double())
    error = math.nan
    if estimate:
        refined = refined_gradient(lower, upper, x, found.gradient, torch.zeros_like(x), _closely)
        error = theta.norm(theta.add(grad, refined, -1.0))
    return HyperGradient(
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


def value_interval(upper: Upper, x: Tensor, rms: Tensor) -> Tensor:
    """‖∇ℓ(x)‖ ε + L_ℓ ε²/2 >= |ℓ(x) - ℓ(x̂)| for a certified ``rms``, (b,); inf without one."""
    radius = rms * x[0].numel() ** 0.5
    safe = torch.where(torch.isfinite(radius), radius, 0.0)
    pull = rows.norm(upper.grad(x)).double() + upper.lipschitz(x, safe) * safe / 2
    return torch.where(torch.isfinite(radius), pull * safe, torch.inf)


def _closely(hessian: LinearMap, rhs: Tensor) -> LinearSolution:
    return minres(hessian, rhs, rtol=1e-6)
