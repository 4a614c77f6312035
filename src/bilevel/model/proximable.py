"""A term whose proximal map is a formula: a box and a weighted distance, pixel by pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError

__all__ = ["Distance", "Proximable"]


@dataclass(frozen=True)
class Distance:
    """w ‖x - c‖₁: ``weight`` () or (b, 1, 1, 1), and ``centre``, () or with the rows of x."""

    weight: Tensor
    centre: Tensor

    def sizes(self, x: Tensor) -> Tensor:
        """w |x - c|, pixel by pixel."""
        return self.weight * (x - self.centre).abs()

    def scaled(self, factor: Tensor) -> Distance:
        """``factor`` (b,) times the distance, row by row."""
        return replace(self, weight=factor.to(self.weight)[:, None, None, None] * self.weight)

    def rows(self, index: Tensor) -> Distance:
        """Of the rows ``index`` alone."""
        weight, centre = (t[index] if t.ndim else t for t in (self.weight, self.centre))
        return Distance(weight, centre)


@dataclass(frozen=True)
class Proximable:
    """h(x) = w ‖x - c‖₁ where lower <= x <= upper, infinite elsewhere.

    The box is one of the first ``channels`` of x alone, of all if None.

    Example:
        >>> Proximable(lower=0.0).prox(torch.tensor([[-1.0, 2.0]]), torch.ones(1))
        tensor([[0., 2.]])
    """

    lower: float = -math.inf
    upper: float = math.inf
    distance: Distance | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        """Refuse an empty box."""
        if not self.lower <= self.upper:
            raise InputError("a box needs lower <= upper", given=(self.lower, self.upper))

    @property
    def boxed(self) -> bool:
        """Whether any bound is finite."""
        return math.isfinite(self.lower) or math.isfinite(self.upper)

    def rounded(self, dtype: torch.dtype) -> Proximable:
        """The same with bounds that are numbers of that type."""
        lower, upper = torch.tensor([self.lower, self.upper], dtype=dtype).unbind()
        return replace(self, lower=float(lower), upper=float(upper))

    def meet(self, other: Proximable, dtype: torch.dtype) -> Proximable:
        """The sum of both, at most one of them with a distance."""
        other = other.rounded(dtype)
        lower, upper = max(self.lower, other.lower), min(self.upper, other.upper)
        return Proximable(lower, upper, self.distance or other.distance, self.channels)

    def ends(self, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """The bounds of every pixel of x, to be broadcast."""
        if self.channels is None or not self.boxed:
            return self.lower, self.upper
        free = torch.arange(x.shape[1], device=x.device)[:, None, None] >= self.channels
        whole = x.new_full(free.shape, torch.inf)
        return torch.where(free, -whole, self.lower), torch.where(free, whole, self.upper)

    def value(self, x: Tensor) -> Tensor:
        """h(x), (b,); inf outside of the box."""
        total = torch.where(self.holds(x), 0.0, torch.inf).to(x.dtype)
        if self.distance is None:
            return total
        return total + self.distance.sizes(x).flatten(1).sum(1)

    def holds(self, x: Tensor) -> Tensor:
        """Whether x lies in the box, (b,) bool; NaN does not."""
        if not self.boxed:
            return torch.ones(len(x), dtype=torch.bool, device=x.device)
        lower, upper = self.ends(x)
        return ((x >= lower) & (x <= upper)).flatten(1).all(1)

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the box."""
        return _clamped(x, *self.ends(x)) if self.boxed else x

    def prox(self, z: Tensor, step: Tensor) -> Tensor:
        """argmin_x h(x) + ‖x - z‖²/(2 step), ``step`` (b,): soft shrinkage to c, then the box."""
        if self.distance is not None:
            far, reach = z - self.distance.centre, rows.expand(step, z) * self.distance.weight
            z = self.distance.centre + _shrink(far, reach)
        return self.project(z)

    def least(self, x: Tensor, g: Tensor) -> Tensor:
        """The element of g + ∂h(x) of least norm; inf where x lies outside of the box."""
        if self.distance is None and not self.boxed:
            return g
        low, high = self.subdifferential(x)
        return g + torch.minimum(torch.maximum(-g, low), high)

    def subdifferential(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest element of ∂h(x), pixel by pixel; inf outside of the box."""
        low = high = torch.zeros_like(x)
        if self.distance is not None:
            weight, side = self.distance.weight, (x - self.distance.centre).sign()
            low, high = (torch.where(side == 0, s * weight, side * weight) for s in (-1, 1))
        if self.boxed:
            lower, upper = self.ends(x)
            outside = (x < lower) | (x > upper)
            low = torch.where(outside, torch.inf, torch.where(x <= lower, -torch.inf, low))
            high = torch.where(outside | (x >= upper), torch.inf, high)
        return low, high

    def pieces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Which pixels are free, on no kink of h, bool; and h' there, 0 elsewhere."""
        low, high = self.subdifferential(x)
        free = low == high
        return free, torch.where(free, low, 0.0)

    def undecided(self, x: Tensor, g: Tensor, move: Tensor, turn: Tensor) -> Tensor:
        """Pixels that may be on another piece of h at the minimiser of f + h, bool.

        It lies within ``move`` (b,) of x, and ∇f there within ``turn`` (b,) of g. A free pixel is
        decided if no kink is that near, a pixel on a kink if the force holds it there by far.
        """
        low, high = self.subdifferential(x)
        held = torch.minimum(high + g, -low - g) > rows.expand(turn, x)
        lower, upper = self.ends(x)
        apart = torch.minimum(x - lower, upper - x)
        if self.distance is not None:
            apart = torch.minimum(apart, (x - self.distance.centre).abs())
        return ~torch.where(low == high, apart > rows.expand(move, x), held)

    def lowest(self, x: Tensor, r: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """argmin_u ⟨r, u⟩ + h(u) where lower <= u <= upper, pixel by pixel; inf if unbounded."""
        weight, rest = r.new_zeros(()), x
        if self.distance is not None:
            weight, rest = self.distance.weight, self.distance.centre.expand_as(x)
        rest = torch.minimum(torch.maximum(rest, lower), upper)
        return torch.where(r > weight, lower, torch.where(r < -weight, upper, rest))

    def sizes(self, x: Tensor) -> Tensor:
        """h of a point of the box, pixel by pixel."""
        return torch.zeros_like(x) if self.distance is None else self.distance.sizes(x)

    def reach(self, x: Tensor) -> Tensor:
        """‖c‖, (b,) float64: how far the proximal map may be from 0 beyond its argument."""
        if self.distance is None:
            return torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return rows.length(self.distance.centre.expand_as(x))

    def scaled(self, factor: Tensor) -> Proximable:
        """``factor`` (b,) > 0 times the term, row by row: the box stays as it is."""
        if self.distance is None:
            return self
        return replace(self, distance=self.distance.scaled(factor))

    def rows(self, index: Tensor) -> Proximable:
        """Of the rows ``index`` alone."""
        return self if self.distance is None else replace(self, distance=self.distance.rows(index))


def _clamped(x: Tensor, lower: Tensor | float, upper: Tensor | float) -> Tensor:
    if isinstance(lower, Tensor) and isinstance(upper, Tensor):
        return torch.minimum(torch.maximum(x, lower), upper)
    return x.clamp(cast(float, lower), cast(float, upper))


def _shrink(a: Tensor, reach: Tensor) -> Tensor:
    """Towards 0 by ``reach``, exactly 0 where |a| <= reach."""
    return a - torch.minimum(torch.maximum(a, -reach), reach)
