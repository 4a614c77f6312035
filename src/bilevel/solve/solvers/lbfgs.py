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
        new = torch.stack((s[index].flatten(1), y[index].flatten(1)), dim=2)
        products = torch.bmm(self.pairs[index], new).double()
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
    """The last accepted point, the direction from there and the step to try along it."""

    x: Tensor
    value: Tensor
    gradient: Tensor
    direction: Tensor
    slope: Tensor
    length: Tensor
    memory: Memory


@dataclass(frozen=True)
class LBFGS(Solver[LBFGSState]):
    """L-BFGS (Liu and Nocedal 1989) with backtracking; one value and gradient a step.

    A trial is accepted when it decreases J enough (Armijo) or, where rounding hides the decrease,
    when the slope says so (Hager and Zhang 2005, approximate Wolfe). Pairs without positive
    curvature are left out, so that directions always descend, also for non-convex J.

    Args:
        memory: pairs kept.
        first_change: rms length of the first step [grey value].

    Raises:
        InputError: a memory below 1 or a first change that is not positive.

    Example:
        >>> LBFGS().memory
        10
    """

    check_every: ClassVar[int] = 1
    differentiable: ClassVar[bool] = False

    memory: int = 10
    first_change: float = 0.01

    def __post_init__(self) -> None:
        """Check the options."""
        if self.memory < 1 or not self.first_change > 0:
            given = self.memory, self.first_change
            raise InputError("L-BFGS needs memory >= 1 and first_change > 0", given=given)

    def init(self, objective: Objective, x: Tensor) -> LBFGSState:
        """The steepest descent, as long as ``first_change`` asks."""
        value, gradient = objective.value_and_grad(x)
        gamma = self.first_change / rows.rms(gradient).clamp_min(1e-30)
        memory = Memory.empty(x, self.memory, gamma)
        direction = -rows.expand(gamma, gradient) * gradient
        slope = rows.inner(gradient, direction)
        return LBFGSState(x, value, gradient, direction, slope, torch.ones_like(value), memory)

    def gradient(self, state: LBFGSState) -> Tensor:
        """Known at every accepted point."""
        return state.gradient

    def stuck(self, state: LBFGSState) -> Tensor:
        """Rows whose trial is the point itself, in floating-point numbers."""
        reach = state.length * rows.norm(state.direction)
        return reach <= torch.finfo(reach.dtype).eps * rows.norm(state.x)

    def step(self, objective: Objective, state: LBFGSState) -> LBFGSState:
        """Try the step; go on from there, or shorten it."""
        move = rows.expand(state.length, state.x) * state.direction
        x = state.x + move
        value, gradient = objective.value_and_grad(x)
        slope = rows.inner(gradient, state.direction)
        accepted = self._accepted(state, value, slope)
        if not bool(accepted.all()):
            return self._partly(state, x, value, gradient, slope, accepted)
        return self._onward(state, x, value, gradient, move, accepted)

    @staticmethod
    def _accepted(state: LBFGSState, value: Tensor, slope: Tensor) -> Tensor:
        enough = value <= state.value + 1e-4 * state.length * state.slope
        noise = 1e-6 if value.dtype == torch.float32 else 1e-14
        level = value <= state.value + noise * state.value.abs()
        return enough | (level & (slope <= -0.8 * state.slope))

    def _onward(
        self,
        state: LBFGSState,
        x: Tensor,
        value: Tensor,
        gradient: Tensor,
        move: Tensor,
        accepted: Tensor,
    ) -> LBFGSState:
        turn = gradient - state.gradient
        curved = rows.inner(move, turn) > 1e-8 * rows.norm(move) * rows.norm(turn)
        memory = state.memory.add(move, turn, accepted & curved)
        direction = -memory.apply(gradient)
        slope = rows.inner(gradient, direction)
        downhill = rows.expand(slope < 0, x)
        direction = torch.where(downhill, direction, -rows.expand(memory.gamma, x) * gradient)
        return LBFGSState(x, value, gradient, direction, slope, torch.ones_like(value), memory)

    def _partly(
        self,
        state: LBFGSState,
        x: Tensor,
        value: Tensor,
        gradient: Tensor,
        slope: Tensor,
        accepted: Tensor,
    ) -> LBFGSState:
        """Rows that were not accepted stay, with a step where their slope would vanish."""
        wide = rows.expand(accepted, x)
        kept = replace(
            state,
            x=torch.where(wide, x, state.x),
            value=torch.where(accepted, value, state.value),
            gradient=torch.where(wide, gradient, state.gradient),
        )
        onward = self._onward(state, kept.x, kept.value, kept.gradient, kept.x - state.x, accepted)
        secant = (state.slope / (state.slope - slope)).nan_to_num(0.0, 0.0, 0.0)
        shorter = state.length * secant.clamp(0.1, 0.5)
        return replace(
            onward,
            direction=torch.where(wide, onward.direction, state.direction),
            slope=torch.where(accepted, onward.slope, state.slope),
            length=torch.where(accepted, onward.length, shorter),
        )
