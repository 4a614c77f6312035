"""How x and v of the samples drawn follow θ, where each sample has its own."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.momentum import growing
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Directions, Draw, Iterates
from bilevel.learn.problem import DirectedProblem, smooth
from bilevel.linear.cg import cg_steps

__all__ = ["approach", "lag", "whole_norm"]


def approach(
    problem: DirectedProblem, theta: Theta, at: Iterates, draw: Draw, steps: int, factor: float
) -> None:
    """``steps`` of x, then of v, in the rows drawn.

    Those of x are Nesterov's, of length ``factor``/L; momentum is that of the proved strong
    convexity, or grows as k/(k + 3) where none is proved. Those of v are conjugate gradients.
    A step of x costs a gradient, one of v a Hessian-vector product, and v one more to start.
    """
    if steps < 1:
        return
    with problem.metered():
        drawn = draw.inner
        objective = smooth(problem.lower_at(theta, drawn))
        bounds, x = objective.bounds, at.x[drawn]
        root = (factor * bounds.proved_mu() / bounds.lipschitz).clamp(0, 1).sqrt()
        length = rows.expand((factor / bounds.lipschitz).to(x), x)
        known = rows.expand(((1 - root) / (1 + root)).to(x), x)
        last = x
        for k in range(steps):
            moved = x - length * objective.grad(x)
            momentum = torch.where(known < 1, known, growing(k))
            x, last = moved + momentum * (moved - last), moved
        pull = problem.upper_at(theta, drawn).grad(last)
        hessian = objective.hessian(last).without_inverse()
        at.v[drawn] = cg_steps(hessian, -pull, at.v[drawn], steps)
        at.x[drawn] = last


def lag(problem: DirectedProblem, theta: Theta, at: Iterates, found: Directions) -> float:
    """How far x and v are behind: the larger of two ratios over the rows of ``found``, free.

    Σ|⟨v, D_x⟩| to the loss, which is what x(θ) would change it by to first order if v were exact,
    and ‖D_v‖ to ‖∇ℓ‖, which is D_v at v = 0. ``found`` are the directions at ``at``.
    """
    x, v = at.x[found.rows], at.v[found.rows]
    pull = problem.upper_at(theta, found.rows).grad(x)
    change = float(rows.inner(v, found.x).abs().double().mean())
    small = torch.finfo(x.dtype).tiny
    of_x = change / (problem.loss.scale(found.value) + small)
    return max(of_x, whole_norm(found.v) / (whole_norm(pull) + small))


def whole_norm(x: Tensor) -> float:
    """Of all entries together, summed in float64."""
    return float(x.double().square().sum().sqrt())
