"""Newton steps in the pixels that no kink holds, safeguarded by proximal gradient steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap, cg
from bilevel.model.composite import CompositeObjective
from bilevel.model.objective import Objective
from bilevel.model.proximable import Proximable
from bilevel.solve.solver import Solver, curvature_range

__all__ = ["ProximalNewton"]

ROUNDS = 6
"""Of a Newton step, in which pixels that would cross a kink are held there."""
HALVINGS = 6
"""Of a Newton step, before the proximal gradient step is taken in its place."""


@dataclass(frozen=True)
class ProximalNewtonState:
    """The point, ∇f and the least subgradient of J there, and the step 1/L; per row."""

    x: Tensor
    slope: Tensor
    least: Tensor
    step: Tensor


@dataclass(frozen=True)
class ProximalNewton(Solver[ProximalNewtonState]):
    """Newton's method beside a box or an absolute value: few steps where L is far too large.

    The proximal gradient step z = prox_{h/L}(x - ∇f(x)/L) tells which pixels a kink holds; those
    go there, and the others by H d = -(∇f + h') as conjugate gradients solve it; those that would
    cross a kink stop there, and the rest is solved for again (projected Newton methods, Bertsekas
    1982; Schmidt, Kim and Sra 2011). The step is halved until J is no larger than at z, to
    rounding; failing that z is taken, so that J falls at least as fast as with proximal gradients.

    Args:
        forcing: largest relative residual of a Newton system, in (0, 1).
        max_products: largest number of Hessian-vector products a step.

    Raises:
        InputError: options out of range; later an objective that is not composite, or no Lipschitz
            constant of ∇f.

    Example:
        >>> ProximalNewton().forcing
        0.1
    """

    check_every: ClassVar[int] = 1
    differentiable: ClassVar[bool] = False
    takes: ClassVar[type[Objective]] = CompositeObjective

    forcing: float = 0.1
    max_products: int = 100

    def __post_init__(self) -> None:
        """Check the options."""
        if not 0 < self.forcing < 1 or self.max_products < 1:
            given = self.forcing, self.max_products
            what = "proximal Newton needs 0 < forcing < 1 and max_products >= 1"
            raise InputError(what, given=given)

    def init(self, objective: CompositeObjective, x: Tensor) -> ProximalNewtonState:
        """Only what is known at x."""
        lipschitz, _ = curvature_range(objective, "proximal Newton", "override bounds()")
        slope = objective.smooth.grad(x)
        step = (1 / lipschitz.clamp_min(1e-30)).to(x.dtype)
        return ProximalNewtonState(x, slope, objective.proximable.least(x, slope), step)

    def gradient(self, state: ProximalNewtonState) -> Tensor:
        """The least subgradient, known at every point."""
        return state.least

    def step(
        self, objective: CompositeObjective, state: ProximalNewtonState
    ) -> ProximalNewtonState:
        """One linear system, a few values, one gradient."""
        h, x = objective.proximable, state.x
        near = h.prox(x - rows.expand(state.step, x) * state.slope, state.step)
        target = self._newton(objective, state, near)
        x = _better(objective, x, near, target)
        slope = objective.smooth.grad(x)
        return ProximalNewtonState(x, slope, h.least(x, slope), state.step)

    def _newton(
        self, objective: CompositeObjective, state: ProximalNewtonState, near: Tensor
    ) -> Tensor:
        """Held pixels at their kinks, the others at the minimum of the quadratic model.

        Those that would cross a kink are held there too, and the rest solved for again.
        """
        h, x = objective.proximable, state.x
        free, tilt = h.pieces(near)
        hessian = objective.smooth.hessian(x)
        held, found = torch.where(free, 0.0, near - x), torch.zeros_like(x)
        pull, this_side = -(state.slope + tilt), near
        for _ in range(ROUNDS):
            force = pull - hessian(held) if bool((held != 0).any()) else pull
            force, start = (torch.where(free, part, 0.0) for part in (force, found))
            on = _on(free, hessian)
            found = cg(on, force, rtol=self.forcing, max_steps=self.max_products, x0=start).x
            target = x + torch.where(free, found, held)
            this_side = _this_side(h, target, near)
            crossing = free & (this_side != target)
            if not bool(crossing.any()):
                break
            held = torch.where(crossing, this_side - x, held)
            free = free & ~crossing
        return this_side


def _on(free: Tensor, hessian: LinearMap) -> LinearMap:
    """D H D + (I - D), with the inverse of H that is known cut out in the same way."""

    def apply(v: Tensor) -> Tensor:
        return torch.where(free, hessian(torch.where(free, v, 0.0)), v)

    own = LinearMap(apply, lambda index: _on(free[index], hessian.rows(index)))
    inverse = hessian.inverse
    return own if inverse is None else own.with_inverse(lambda: _on(free, inverse()))


def _better(objective: CompositeObjective, x: Tensor, near: Tensor, target: Tensor) -> Tensor:
    """On the way from x to ``target``, or ``near`` where J is nowhere as small as there."""
    found, left = near.clone(), torch.arange(len(x), device=x.device)
    part, level = objective, objective.value(near)
    level = level + 8 * torch.finfo(level.dtype).eps * level.abs()
    for halving in range(HALVINGS):
        point = x[left] + 0.5**halving * (target[left] - x[left])
        trial = _this_side(part.proximable, point, near[left])
        accepted = part.value(trial) <= level[left]
        found[left[accepted]] = trial[accepted]
        remaining = torch.nonzero(~accepted).flatten()
        if not len(remaining):
            break
        left, part = left[remaining], part.rows(remaining)
    return found


def _this_side(h: Proximable, x: Tensor, near: Tensor) -> Tensor:
    """In the box, and on the side of the absolute value's kink that ``near`` lies on."""
    if h.distance is not None:
        side = (near - h.distance.centre).sign()
        far = (x - h.distance.centre) * side
        x = torch.where(side == 0, x, h.distance.centre + side * far.clamp_min(0.0))
    return h.project(x)
