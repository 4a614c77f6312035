"""L-BFGS: curvature learned from the last gradients, every row with a line search of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.contrast import spread
from bilevel.ground.errors import InputError
from bilevel.model.preconditioner import Preconditioner
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solver import Solver
from bilevel.solve.solvers.line_search import LineSearch

__all__ = ["LBFGS", "LBFGSState"]


@dataclass(frozen=True)
class Memory:
    """The last pairs s = x⁺ - x, y = ∇J(x⁺) - ∇J(x) of each row, as H ≈ (∇²J)⁻¹ in compact form.

    ``moves`` and ``turns`` (b, m, n) hold the s and y, ``products`` their inner products ⟨s, y⟩,
    ``age`` when a slot was written (0: never), ``gamma`` the scale sᵀy/yᵀMy. M is the
    preconditioner ``inverse``, or the identity.
    """

    moves: Tensor
    turns: Tensor
    products: Tensor
    age: Tensor
    gamma: Tensor
    inverse: Preconditioner | None = None

    @staticmethod
    def empty(x: Tensor, size: int, gamma: Tensor, inverse: Preconditioner | None = None) -> Memory:
        """No pairs: H = gamma M."""
        b, n = len(x), x[0].numel()
        products = torch.zeros(b, size, size, dtype=torch.float64, device=x.device)
        age = torch.zeros(b, size, dtype=torch.int64, device=x.device)
        nothing = x.new_zeros(b, size, n)
        return Memory(nothing, nothing.clone(), products, age, gamma, inverse)

    def renewed(self, inverse: Preconditioner | None) -> Memory:
        """With another M; a gamma of 1 until the next pair tells."""
        return replace(self, inverse=inverse, gamma=torch.ones_like(self.gamma))

    def scaled(self, g: Tensor) -> Tensor:
        """Gamma M g."""
        return rows.expand(self.gamma, g) * (g if self.inverse is None else self.inverse(g))

    def add(self, s: Tensor, y: Tensor, good: Tensor) -> Memory:
        """Put (s, y) into the oldest slot of the rows ``good``; writes into this memory."""
        index = torch.nonzero(good).flatten()
        if not len(index):
            return self
        slot = self.age[index].argmin(1)
        self.moves[index, slot] = s[index].flatten(1)
        self.turns[index, slot] = y[index].flatten(1)
        turned = y if self.inverse is None else self.inverse(y)
        self.products[index, :, slot] = _against(self.moves, y)[index]
        self.age[index, slot] = self.age[index].amax(1) + 1
        sy = self.products[index, slot, slot]
        self.gamma[index] = (sy / rows.inner(y, turned)[index].double()).to(self.gamma)
        return self

    def apply(self, g: Tensor) -> Tensor:
        """H g (Byrd, Nocedal, Schnabel 1994, (3.1)), two passes over the pairs.

        With S, Y the pairs, R the upper triangle of SᵀY and D its diagonal: u = R⁻¹ Sᵀg,
        w = gamma M (g - Y u), H g = w + S R⁻ᵀ(D u - Yᵀw).
        """
        order = self.age.argsort(1)
        square = order[:, :, None].expand_as(self.products)
        products = self.products.gather(1, square).gather(2, square.mT)
        empty = (self.age.gather(1, order) == 0).to(products)
        upper = products.triu() + torch.diag_embed(empty)
        diagonal = torch.diagonal(products, dim1=1, dim2=2)
        known = _against(self.moves, g).gather(1, order)[..., None]
        u = cast(Tensor, torch.linalg.solve_triangular(upper, known, upper=True))[..., 0]
        w = g - _combined(self.turns, torch.zeros_like(u).scatter(1, order, u), g)
        w = self.scaled(w)
        rest = (diagonal * u - _against(self.turns, w).gather(1, order))[..., None]
        v = cast(Tensor, torch.linalg.solve_triangular(upper.mT, rest, upper=False))[..., 0]
        return w + _combined(self.moves, torch.zeros_like(v).scatter(1, order, v), g)


def _against(pairs: Tensor, g: Tensor) -> Tensor:
    """The inner products of g with every vector of the memory, (b, m) in float64."""
    return torch.bmm(pairs, g.flatten(1)[:, :, None])[..., 0].double()


def _combined(pairs: Tensor, weights: Tensor, like: Tensor) -> Tensor:
    """Σ_j weights_j pairs_j."""
    return torch.bmm(weights.to(like)[:, None, :], pairs)[:, 0].view_as(like)


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
        first_change: rms length of the first step [grey value]; a third of the deviation of the
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
        curved = rows.inner(move, turn) > 1e-8 * rows.norm(move) * rows.norm(turn)
        memory = state.memory
        if memory.inverse is not None and _due(state.steps):
            memory = memory.renewed(objective.preconditioner(search.x))
        memory = memory.add(move, turn, accepted & curved)
        direction = -memory.apply(search.gradient)
        turned = search.turned(direction, accepted, memory.scaled)
        return LBFGSState(turned, memory, state.steps + 1)


def _first_length(x: Tensor) -> Tensor:
    """A third of the deviation from the mean: 0.08 for pictures in [0, 1]; (b,)."""
    deviation = spread(x)
    return torch.where(deviation > 0, deviation / 3, 0.08)


def _due(steps: Tensor) -> bool:
    """Whether this step, the same for all rows, is one of 8, 64, 512, ..."""
    return int(steps[0]) in {8**k for k in range(1, 11)}
