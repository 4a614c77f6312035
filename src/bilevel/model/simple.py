"""A term whose proximal map is a formula: a box and a weighted distance, pixel by pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.model.lengths import Lengths
from bilevel.model.operators import Identity

__all__ = ["Simple"]


@dataclass(frozen=True)
class Simple:
    """h(x) = w ‖x - c‖₁ where lower <= x <= upper, infinite elsewhere; ``distance`` is (w, c).

    The weight w is () or broadcasts to x, the centre c is () or has the rows of x.

    Example:
        >>> Simple(lower=0.0).prox(torch.tensor([[-1.0, 2.0]]), torch.ones(1))
        tensor([[0., 2.]])
    """

    lower: float = -math.inf
    upper: float = math.inf
    weight: Tensor | None = None
    centre: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse an empty box."""
        if not self.lower <= self.upper:
            raise InputError("a box needs lower <= upper", given=(self.lower, self.upper))

    @property
    def boxed(self) -> bool:
        """Whether any bound is finite."""
        return math.isfinite(self.lower) or math.isfinite(self.upper)

    def rounded(self, dtype: torch.dtype) -> Simple:
        """The same with bounds that are numbers of that type."""
        lower, upper = torch.tensor([self.lower, self.upper]).to(dtype).tolist()
        return replace(self, lower=lower, upper=upper)

    def meet(self, other: Simple, dtype: torch.dtype) -> Simple:
        """The sum of both, at most one of them with a distance."""
        weight, centre = self.weight, self.centre
        if weight is None:
            weight, centre = other.weight, other.centre
        other = other.rounded(dtype)
        return Simple(max(self.lower, other.lower), min(self.upper, other.upper), weight, centre)

    def value(self, x: Tensor) -> Tensor:
        """h(x), (b,); inf outside of the box."""
        total = torch.where(self.holds(x), 0.0, torch.inf).to(x.dtype)
        if self.weight is not None:
            total = total + (self.weight * (x - self.centre).abs()).flatten(1).sum(1)
        return total

    def holds(self, x: Tensor) -> Tensor:
        """Whether x lies in the box, (b,) bool; NaN does not."""
        if not self.boxed:
            return torch.ones(len(x), dtype=torch.bool, device=x.device)
        return ((x >= self.lower) & (x <= self.upper)).flatten(1).all(1)

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the box."""
        return x.clamp(self.lower, self.upper) if self.boxed else x

    def prox(self, z: Tensor, step: Tensor) -> Tensor:
        """argmin_x h(x) + ‖x - z‖²/(2 step), ``step`` (b,): soft shrinkage to c, then the box."""
        if self.weight is not None:
            far = z - self.centre
            reach = rows.expand(step, z) * self.weight
            z = z - torch.minimum(torch.maximum(far, -reach), reach)
        return self.project(z)

    def least(self, x: Tensor, g: Tensor) -> Tensor:
        """The element of g + ∂h(x) of least norm; inf where x lies outside of the box."""
        if self.weight is not None:
            side = (x - self.centre).sign()
            shrunk = g - torch.minimum(torch.maximum(g, -self.weight), self.weight)
            g = torch.where(side == 0, shrunk, g + self.weight * side)
        if self.boxed:
            g = torch.where(x <= self.lower, g.clamp_max(0.0), g)
            g = torch.where(x >= self.upper, torch.where(x <= self.lower, 0.0, g.clamp_min(0.0)), g)
            g = torch.where((x < self.lower) | (x > self.upper), torch.inf, g)
        return g

    def lowest(self, x: Tensor, r: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """argmin_u ⟨r, u⟩ + h(u) where lower <= u <= upper, pixel by pixel; inf if unbounded."""
        rest = x if self.centre is None else self.centre
        weight = r.new_zeros(()) if self.weight is None else self.weight
        rest = torch.minimum(torch.maximum(rest.expand_as(x), lower), upper)
        return torch.where(r > weight, lower, torch.where(r < -weight, upper, rest))

    def drop(self, x: Tensor, u: Tensor) -> Tensor:
        """h(x) - h(u), pixel by pixel, of two points of the box."""
        if self.weight is None:
            return torch.zeros_like(x)
        return self.weight * ((x - self.centre).abs() - (u - self.centre).abs())

    def as_lengths(self) -> Lengths:
        """The distance as a dual term; the box is left out."""
        shift = self.centre if self.centre is not None and self.centre.ndim else None
        weight = torch.zeros(()) if self.weight is None else self.weight
        return Lengths(Identity(), weight, shift=shift)

    def rows(self, index: Tensor) -> Simple:
        """Of the rows ``index`` alone."""
        if self.centre is None or self.centre.ndim == 0:
            return self
        return replace(self, centre=self.centre[index])

    def double(self) -> Simple:
        """In float64."""
        if self.weight is None or self.centre is None:
            return self
        return replace(self, weight=self.weight.double(), centre=self.centre.double())
