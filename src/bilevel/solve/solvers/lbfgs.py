"""L-BFGS: curvature learned from the last gradients, every row with a line search of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.model.objective import Objective
from bilevel.solve.solver import Solver
from bilevel.solve.solvers.line_search import LineSearch

__all__ = ["LBFGS", "LBFGSState"]


@dataclass(frozen=True)
class Memory:
    """The last pairs s = x⁺ - x, y = ∇J(x⁺) - ∇J(x) of each row, as H ≈ (∇²J)⁻¹ in compact form.

    ``pairs`` (b, 2m, n) holds s in its first m slots and y in the others, ``gram`` their inner
    products, ``age`` when a slot was written (0: never), ``gamma`` the scale sᵀy/yᵀy.
    """

    pairs: Tensor
    gram: Tensor
    age: Tensor
    gamma: Tensor

    @staticmethod
    def empty(x: Tensor, size: int, gamma: Tensor) -> Memory:
        """No pairs: H = gamma I."""
        b, n = len(x), x[0].numel()
        gram = torch.zeros(b, 2 * size, 2 * size, dtype=torch.float64, device=x.device)
        age = torch.zeros(b, size, dtype=torch.int64, device=x.device)
        return Memory(x.new_zeros(b, 2 * size, n), gram, age, gamma)

    def add(self, s: Tensor, y: Tensor, good: Tensor) -> Memory:
        """Put (s, y) into the oldest slot of the rows ``good``; writes into this memory."""
        index = torch.nonzero(good).flatten()
        if not len(index):
            return self
        size = self.age.shape[1]
        slot = self.age[index].argmin(1)
        self.pairs[index, slot] = s[index].flatten(1)
        self.pairs[index, slot + size] = y[index].flatten(1)
        every = len(index) == len(good)
        new = torch.stack((s.flatten(1), y.flatten(1)), dim=2)
        pairs, new = (self.pairs, new) if every else (self.pairs[index], new[index])
        products = torch.bmm(pairs, new).double()
        for k, column in enumerate((slot, slot + size)):
            self.gram[index, :, column] = products[..., k]
            self.gram[index, column, :] = products[..., k]
        self.age[index, slot] = self.age[index].amax(1) + 1
        sy = self.gram[index, slot, slot + size]
        self.gamma[index] = (sy / self.gram[index, slot + size, slot + size]).to(self.gamma)
        return self

    def apply(self, g: Tensor) -> Tensor:
        """H g (Byrd, Nocedal, Schnabel 1994, (3.1)): two passes over the pairs."""
        size = self.age.shape[1]
        order = self.age.argsort(1)
        both = torch.cat((order, order + size), 1)
        gram = self.gram.gather(1, both[:, :, None].expand_as(self.gram))
        gram = gram.gather(2, both[:, None, :].expand_as(self.gram))
        known = torch.bmm(self.pairs, g.flatten(1)[:, :, None])[..., 0].double().gather(1, both)
        p, q = known[:, :size, None], known[:, size:, None]
        sy, yy = gram[:, :size, size:], gram[:, size:, size:]
        empty = (self.age.gather(1, order) == 0).to(sy)
        upper = sy.triu() + torch.diag_embed(empty)
        diagonal = torch.diagonal(sy, dim1=1, dim2=2)
        gamma = self.gamma.double()[:, None, None]
        u = cast(Tensor, torch.linalg.solve_triangular(upper, p, upper=True))
        inner = diagonal[..., None] * u + gamma * (yy @ u - q)
        v = cast(Tensor, torch.linalg.solve_triangular(upper.mT, inner, upper=False))
        weights = torch.cat((v, -gamma * u), 1)[..., 0]
        placed = torch.zeros_like(weights).scatter(1, both, weights).to(g)
        combined = torch.bmm(placed[:, None, :], self.pairs)[:, 0].view_as(g)
        return rows.expand(self.gamma, g) * g + combined


@dataclass(frozen=True)
class LBFGSState:
    """Where the line search stands, and the curvature learned so far."""

    search: LineSearch
    memory: Memory

    @property
    def x(self) -> Tensor:
        """The last accepted point."""
        return self.search.x


@dataclass(frozen=True)
class LBFGS(Solver[LBFGSState]):
    """L-BFGS (Liu and Nocedal 1989) with backtracking; one value and gradient a step.

    Pairs without positive curvature are left out, so that directions descend for non-convex J too.

    Args:
        memory: pairs kept.
        first_change: rms length of the first step [grey value].

    Raises:
        InputError: a memory below 1 or a first change that is not positive.

    Example:
        >>> LBFGS().memory
        4
    """

    check_every: ClassVar[int] = 1
    differentiable: ClassVar[bool] = False

    memory: int = 4
    first_change: float = 0.08

    def __post_init__(self) -> None:
        """Check the options."""
        if self.memory < 1 or not self.first_change > 0:
            given = self.memory, self.first_change
            raise InputError("L-BFGS needs memory >= 1 and first_change > 0", given=given)

    def init(self, objective: Objective, x: Tensor) -> LBFGSState:
        """The steepest descent, as long as ``first_change`` asks."""
        search = LineSearch.start(objective, x)
        gamma = self.first_change / rows.rms(search.gradient).clamp_min(1e-30)
        memory = Memory.empty(x, self.memory, gamma)
        return LBFGSState(replace(search, length=gamma), memory)

    def gradient(self, state: LBFGSState) -> Tensor:
        """Known at every accepted point."""
        return state.search.gradient

    def stuck(self, state: LBFGSState) -> Tensor:
        """Rows in which rounding hides every decrease."""
        return state.search.stuck()

    def step(self, objective: Objective, state: LBFGSState) -> LBFGSState:
        """Try the step; go on from there, or shorten it."""
        before = state.search
        search, accepted = before.trial(objective)
        move, turn = search.x - before.x, search.gradient - before.gradient
        curved = rows.inner(move, turn) > 1e-8 * rows.norm(move) * rows.norm(turn)
        memory = state.memory.add(move, turn, accepted & curved)
        direction = -memory.apply(search.gradient)
        return LBFGSState(search.turned(direction, accepted, memory.gamma), memory)
