"""How x and v of the samples drawn follow θ, where each sample has its own."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.differentiate import Upper
from bilevel.ground import rows
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Directions, Draw, Iterates
from bilevel.learn.problem import BilevelProblem, smooth
from bilevel.linear import cg

__all__ = ["approach", "lag"]

_ROUNDING = 100.0
"""Units in the last place of the terms of a residual below which it says nothing."""


def approach(
    problem: BilevelProblem, theta: Theta, at: Iterates, draw: Draw, steps: int, factor: float
) -> None:
    """``steps`` of x, then of v, in the rows drawn.

    Those of x are Nesterov's, of length ``factor``/L; momentum is that of the proved strong
    convexity, or grows as k/(k + 3) where none is proved. Those of v are conjugate gradients.
    A step of x costs a gradient, one of v a Hessian-vector product.
    """
    if steps < 1:
        return
    with problem.metered():
        drawn = draw.inner
        objective = smooth(problem.energy.at(problem.pairs.y[drawn], theta, problem.cost))
        bounds, x = objective.bounds, at.x[drawn]
        root = (factor * bounds.proved_mu() / bounds.lipschitz).clamp(0, 1).sqrt()
        length = rows.expand((factor / bounds.lipschitz).to(x), x)
        known = rows.expand(((1 - root) / (1 + root)).to(x), x)
        last = x
        for k in range(steps):
            moved = x - length * objective.grad(x)
            momentum = torch.where(known < 1, known, k / (k + 3))
            x, last = moved + momentum * (moved - last), moved
        pull = Upper(problem.loss, problem.pairs.target[drawn]).grad(last)
        found = cg(objective.hessian(last), -pull, x0=at.v[drawn], max_steps=steps)
        at.x[drawn], at.v[drawn] = last, found.x


def lag(problem: BilevelProblem, theta: Theta, at: Iterates, found: Directions) -> float:
    """How far x and v are behind, relative to a cold start: the larger of two ratios.

    ‖∇J(x)‖ to that at the energy's own start, at the price of a gradient, and ‖D_v‖ to ‖∇ℓ‖,
    which is D_v at v = 0; both over the rows of ``found``, the directions at ``at``.
    """
    with problem.metered():
        drawn, x = found.rows, at.x[found.rows]
        objective = smooth(problem.energy.at(problem.pairs.y[drawn], theta, problem.cost))
        pull = Upper(problem.loss, problem.pairs.target[drawn]).grad(x)
        floor = _ROUNDING * torch.finfo(x.dtype).eps * _norm(x) + torch.finfo(x.dtype).tiny
        cold = _norm(objective.grad(objective.start()))
        stiff = float(objective.bounds.lipschitz.max())
        return max(_norm(found.x) / (cold + stiff * floor), _norm(found.v) / (_norm(pull) + floor))


def _norm(x: Tensor) -> float:
    return float(x.double().square().sum().sqrt())
