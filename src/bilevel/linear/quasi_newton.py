"""What gradients told of curvature: BFGS matrices of a few pairs, and their inverses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.ground import rows

__all__ = ["Memory", "Pair", "bfgs", "curved", "quasi_newton", "remembered"]

Inverse = Callable[[Tensor], Tensor]
Pair = tuple[Tensor, Tensor]
"""A move (p,) and the change of the gradient along it."""


def curved(move: Tensor, turn: Tensor) -> Tensor:
    """Rows in which the gradient turned so that the curvature along the move is positive, (b,)."""
    return rows.inner(move, turn) > 1e-8 * rows.norm(move) * rows.norm(turn)


@dataclass(frozen=True)
class Memory:
    """The last pairs s = x⁺ - x, y = ∇J(x⁺) - ∇J(x) of each row, as H ≈ (∇²J)⁻¹ in compact form.

    ``moves`` and ``turns`` (b, m, n) hold the s and y, ``products`` their inner products ⟨s, y⟩,
    ``age`` when a slot was written (0: never), ``gamma`` the scale sᵀy/yᵀMy. M is the
    approximate inverse ``inverse``, or the identity.
    """

    moves: Tensor
    turns: Tensor
    products: Tensor
    age: Tensor
    gamma: Tensor
    inverse: Inverse | None = None

    @staticmethod
    def empty(x: Tensor, size: int, gamma: Tensor, inverse: Inverse | None = None) -> Memory:
        """No pairs: H = gamma M."""
        b, n = len(x), x[0].numel()
        products = torch.zeros(b, size, size, dtype=torch.float64, device=x.device)
        age = torch.zeros(b, size, dtype=torch.int64, device=x.device)
        nothing = x.new_zeros(b, size, n)
        return Memory(nothing, nothing.clone(), products, age, gamma, inverse)

    def renewed(self, inverse: Inverse | None) -> Memory:
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


def remembered(pairs: tuple[Pair, ...], new: Pair, most: int) -> tuple[Pair, ...]:
    """The last ``most`` pairs, with the new one if that has positive curvature."""
    move, turn = new
    return (*pairs, new)[-most:] if bool(curved(move[None], turn[None])) else pairs


def quasi_newton(slope: Tensor, pairs: tuple[Pair, ...], first: Tensor | None = None) -> Tensor:
    """H times ``slope`` (p,), for the inverse BFGS matrix H of the pairs, the newest last.

    H starts from ``first`` (p, p), symmetric, or from the scale that the last pair tells.

    Example:
        >>> move, turn = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0])
        >>> quasi_newton(torch.tensor([2.0, 2.0]), ((move, turn),))
        tensor([1., 1.])
    """
    one = torch.ones_like(slope[:1])
    memory = Memory.empty(slope[None], max(len(pairs), 1), one.clone())
    for move, turn in pairs:
        memory = memory.add(move[None], turn[None], one > 0)
    if first is not None:
        memory = memory.renewed(lambda g: g @ first)
    return memory.apply(slope[None])[0]


def bfgs(pairs: tuple[Pair, ...]) -> Callable[[Tensor], Tensor]:
    """v -> Bv for the BFGS matrix of ``pairs`` (moved, change of gradient); 0 without pairs.

    Every pair needs positive curvature.

    Source: Nocedal and Wright 2006, Section 7.2.

    Example:
        >>> moved, change = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0])
        >>> bfgs(((moved, change),))(moved).round()
        tensor([2., 1.])
    """
    if not pairs:
        return torch.zeros_like
    moved, change = pairs[-1]
    scale = (change @ change) / (moved @ change)
    parts: list[tuple[float, Tensor]] = []

    def product(v: Tensor) -> Tensor:
        total = scale * v
        for sign, row in parts:
            total = total + sign * (row @ v) * row
        return total

    for moved, change in pairs:
        bent = product(moved)
        parts.append((-1.0, bent / (moved @ bent).sqrt()))
        parts.append((1.0, change / (moved @ change).sqrt()))
    return product
