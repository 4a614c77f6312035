"""L-BFGS: curvature learned from the last gradients, every row with a line search of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.contrast import spread
from bilevel.ground.errors import InputError
from bilevel.linear.quasi_newton import Memory, curved
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solver import Solver
from bilevel.solve.solvers.line_search import LineSearch

__all__ = ["LBFGS", "LBFGSState"]


@dataclass(frozen=True)
class LBFGSState:
    """Where the line search stands, and the curvature learned so far."""

    search: LineSearch
    memory: Memory
    steps: Tensor
    """Taken so far, (b,)."""

    @property
    def x(self) -> Tensor:
        """The last accepted point."""
        return self.search.x


@dataclass(frozen=True)
class LBFGS(Solver[LBFGSState]):
    """L-BFGS: learns curvature; about half the gradients of Nesterov's method, or fewer.

    L-BFGS (Liu and Nocedal 1989) with backtracking; one value and gradient a step.

    Pairs without positive curvature are left out, so that directions descend for non-convex J too.
    Where the energy has a preconditioner M, H is made from it in the place of the identity; the
    steps 8, 64, 512, ... make it anew at x.

    Args:
        memory: pairs kept.
        first_change: rms length of the first step [grey value]; a quarter of the deviation of the
            start from its mean if None. Where that is 0, 0.08.
        precondition: use the energy's preconditioner, if it has one.

    Raises:
        InputError: a memory below 1 or a first change that is not positive.

    Example:
        >>> LBFGS().memory
        4
    """

    check_every: ClassVar[int] = 1
    differentiable: ClassVar[bool] = False

    memory: int = 4
    first_change: float | None = None
    precondition: bool = True

    def __post_init__(self) -> None:
        """Check the options."""
        if self.memory < 1 or (self.first_change is not None and not self.first_change > 0):
            given = self.memory, self.first_change
            raise InputError("L-BFGS needs memory >= 1 and first_change > 0", given=given)

    def init(self, objective: SmoothObjective, x: Tensor) -> LBFGSState:
        """The steepest descent, as long as ``first_change`` asks."""
        search = LineSearch.start(objective, x)
        length = _first_length(x) if self.first_change is None else self.first_change
        gamma = length / rows.rms(search.gradient).clamp_min(torch.finfo(x.dtype).tiny)
        inverse = objective.preconditioner(x) if self.precondition else None
        memory = Memory.empty(x, self.memory, gamma.clone(), inverse)
        return LBFGSState(replace(search, length=gamma), memory, torch.zeros_like(memory.age[:, 0]))

    def gradient(self, state: LBFGSState) -> Tensor:
        """Known at every accepted point."""
        return state.search.gradient

    def stuck(self, state: LBFGSState) -> Tensor:
        """Rows in which rounding hides every decrease."""
        return state.search.stuck()

    def step(self, objective: SmoothObjective, state: LBFGSState) -> LBFGSState:
        """Try the step; go on from there, or shorten it."""
        before = state.search
        search, accepted = before.trial(objective)
        move, turn = search.x - before.x, search.gradient - before.gradient
        memory = state.memory
        if memory.inverse is not None and _due(state.steps):
            memory = memory.renewed(objective.preconditioner(search.x))
        memory = memory.add(move, turn, accepted & curved(move, turn))
        direction = -memory.apply(search.gradient)
        turned = search.turned(direction, accepted, memory.scaled)
        return LBFGSState(turned, memory, state.steps + 1)


def _first_length(x: Tensor) -> Tensor:
    """A quarter of the deviation from the mean: 0.06 for pictures in [0, 1]; (b,)."""
    deviation = spread(x)
    return torch.where(deviation > 0, deviation / 4, 0.08)


def _due(steps: Tensor) -> bool:
    """Whether this step, the same for all rows, is one of 8, 64, 512, ..."""
    return int(steps[0]) in {8**k for k in range(1, 11)}
