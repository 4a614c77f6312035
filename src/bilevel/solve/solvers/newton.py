"""Truncated Newton: conjugate gradients on the (semismooth) Newton system, then a line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.contrast import spread
from bilevel.ground.errors import InputError
from bilevel.linear import cg
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solver import Solver
from bilevel.solve.solvers.line_search import LineSearch

__all__ = ["NewtonCG"]


@dataclass(frozen=True)
class NewtonState:
    """Where the line search stands, which rows need a direction, and ‖∇J‖ at the start."""

    search: LineSearch
    fresh: Tensor
    first: Tensor

    @property
    def x(self) -> Tensor:
        """The last accepted point."""
        return self.search.x


@dataclass(frozen=True)
class NewtonCG(Solver[NewtonState]):
    """Newton's method with conjugate gradients: for good starts and high accuracy.

    Newton's method with inexact directions (Dembo and Steihaug 1983).

    H d = -∇J is solved to relative residual min(``forcing``, √(‖∇J‖/‖∇J(x_0)‖)), or to where
    negative curvature shows; H is an element of the generalised Hessian where J is only C^{1,1}
    (Qi and Sun 1993). Converges superlinearly near a minimiser with H positive definite; best
    from a good start.

    Args:
        forcing: largest relative residual of a Newton system, in (0, 1).
        max_products: largest number of Hessian-vector products a step.

    Raises:
        InputError: options out of range.

    Example:
        >>> NewtonCG().forcing
        0.5
    """

    check_every: ClassVar[int] = 1
    differentiable: ClassVar[bool] = False

    forcing: float = 0.5
    max_products: int = 100

    def __post_init__(self) -> None:
        """Check the options."""
        if not 0 < self.forcing < 1 or self.max_products < 1:
            given = self.forcing, self.max_products
            raise InputError("Newton-CG needs 0 < forcing < 1 and max_products >= 1", given=given)

    def init(self, objective: SmoothObjective, x: Tensor) -> NewtonState:
        """No direction yet."""
        search = LineSearch.start(objective, x)
        fresh = torch.ones(len(x), dtype=torch.bool, device=x.device)
        return NewtonState(search, fresh, rows.norm(search.gradient))

    def gradient(self, state: NewtonState) -> Tensor:
        """Known at every accepted point."""
        return state.search.gradient

    def stuck(self, state: NewtonState) -> Tensor:
        """Rows in which rounding hides every decrease."""
        return state.search.stuck() & ~state.fresh

    def step(self, objective: SmoothObjective, state: NewtonState) -> NewtonState:
        """Where the last trial was accepted, a new direction; then one trial."""
        search = self._directed(objective, state) if bool(state.fresh.any()) else state.search
        search, accepted = search.trial(objective)
        return NewtonState(search, accepted, state.first)

    def _directed(self, objective: SmoothObjective, state: NewtonState) -> LineSearch:
        index = torch.nonzero(state.fresh).flatten()
        part = objective if bool(state.fresh.all()) else objective.rows(index)
        gradient = state.search.gradient[index]
        ratio = (rows.norm(gradient) / state.first[index]).sqrt().clamp_max(self.forcing)
        hessian = part.hessian(state.x[index])
        solved = cg(hessian, -gradient, rtol=ratio.nan_to_num(0.5), max_steps=self.max_products)
        direction = state.search.direction.clone()
        direction[index] = solved.x
        deviation = spread(state.x)
        length = torch.where(deviation > 0, deviation / 25, 0.01)
        scale = length / rows.rms(state.search.gradient).clamp_min(torch.finfo(state.x.dtype).tiny)
        return state.search.turned(direction, state.fresh, lambda g: rows.expand(scale, g) * g)
