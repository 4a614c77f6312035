"""Penalties Σ_i w_i φ_ν(·) of features t: of every entry, or of the length of vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.fused import fused
from bilevel.model.potentials import Bound, EvenFunction

__all__ = ["Penalty", "RadialPenalty", "SeparablePenalty"]


@dataclass(frozen=True)
class Penalty(ABC):
    """Features (b, g, c, h, w) or (b, c, h, w) -> value, force and curvature of each group."""

    potential: EvenFunction

    @property
    @abstractmethod
    def lipschitz(self) -> Bound:
        """Bounds how fast ∇²ψ changes between kinks."""

    @abstractmethod
    def size(self, t: Tensor) -> Tensor:
        """|t_i| of every group."""

    @abstractmethod
    def spread(self, scale: Tensor, t: Tensor) -> Tensor:
        """Multiply each group of ``t`` by its scale."""

    @abstractmethod
    def curvature(self, t: Tensor, weight: Tensor, smoothing: Tensor) -> Callable[[Tensor], Tensor]:
        """v -> w_i ∇²φ_ν(t_i) v_i, with the factors computed once."""

    def jump(self, s: Tensor, reach: Tensor) -> Tensor:
        """At least what ∇²ψ can jump by at kinks of groups of size s."""
        return self.potential.jump(s, reach)

    def value(self, t: Tensor, smoothing: Tensor) -> Tensor:
        """φ_ν(|t_i|) = ν ψ(|t_i|/ν)."""
        return smoothing * self.potential.value(self.size(t) / smoothing)

    def force(self, t: Tensor, smoothing: Tensor) -> Tensor:
        """∇φ_ν(t_i) = ψ'(|t_i|/ν) t_i/|t_i|."""
        return self.spread(self.potential.ratio(self.size(t) / smoothing) / smoothing, t)

    def pull(self, t: Tensor, weight: Tensor, smoothing: Tensor) -> Tensor:
        """w_i ∇φ_ν(t_i)."""
        return weight * self.force(t, smoothing)

    def total(self, t: Tensor, weight: Tensor, smoothing: Tensor) -> Tensor:
        """Σ_i w_i φ_ν(t_i), (b,)."""
        return (weight * self.value(t, smoothing)).flatten(1).sum(1)

    def total_and_pull(self, t: Tensor, weight: Tensor, smoothing: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        return self.total(t, weight, smoothing), self.pull(t, weight, smoothing)

    def smoothing_force(self, t: Tensor, smoothing: Tensor) -> Tensor:
        """∂∇φ_ν(t_i)/∂log ν = -ψ''(|t_i|/ν) t_i/ν."""
        return self.spread(-self.potential.curvature(self.size(t) / smoothing) / smoothing, t)


@dataclass(frozen=True)
class SeparablePenalty(Penalty):
    """Every entry is penalised by itself; potentials are even, so no absolute value is taken."""

    @property
    def lipschitz(self) -> Bound:
        """That of ψ''."""
        return self.potential.constants.lipschitz

    def size(self, t: Tensor) -> Tensor:
        """|t_i|."""
        return t.abs()

    def spread(self, scale: Tensor, t: Tensor) -> Tensor:
        """Entry by entry."""
        return scale * t

    def force(self, t: Tensor, smoothing: Tensor) -> Tensor:
        """ψ'(t_i/ν), in as few passes over memory as written-out operations allow."""
        return self.potential.slope(t / smoothing)

    def pull(self, t: Tensor, weight: Tensor, smoothing: Tensor) -> Tensor:
        """In one pass over memory once that is compiled."""
        return _pull(t, weight, smoothing, self.potential)

    def total(self, t: Tensor, weight: Tensor, smoothing: Tensor) -> Tensor:
        """The same."""
        return _total(t, weight, smoothing, self.potential)

    def total_and_pull(self, t: Tensor, weight: Tensor, smoothing: Tensor) -> tuple[Tensor, Tensor]:
        """Both in one pass."""
        return _total_and_pull(t, weight, smoothing, self.potential)

    def curvature(self, t: Tensor, weight: Tensor, smoothing: Tensor) -> Callable[[Tensor], Tensor]:
        """Multiplication by w_i ψ''(t_i/ν)/ν."""
        factors = _curvature(t, weight, smoothing, self.potential)
        return lambda v: factors * v


@dataclass(frozen=True)
class RadialPenalty(Penalty):
    """The Euclidean length of the vectors along dimension 1 is penalised."""

    @property
    def lipschitz(self) -> Bound:
        """That of the radial function."""
        return self.potential.constants.radial_lipschitz

    def size(self, t: Tensor) -> Tensor:
        """|t_i| = √Σ_g t_ig², with derivative 0 at 0."""
        square = (t * t).sum(1)
        return square.clamp_min(torch.finfo(t.dtype).tiny).sqrt()

    def jump(self, s: Tensor, reach: Tensor) -> Tensor:
        """All directions turn with the group: the whole spread where a kink may be crossed."""
        crossing = self.potential.jump(s, reach) > 0
        return crossing.to(s) * self.potential.curvature_spread

    def spread(self, scale: Tensor, t: Tensor) -> Tensor:
        """The same scale for all components."""
        return scale.unsqueeze(1) * t

    def value(self, t: Tensor, smoothing: Tensor) -> Tensor:
        """φ_ν(|t_i|), from the square where the potential needs no root."""
        return smoothing * self.potential.value_of_square((t / smoothing).square().sum(1))

    def force(self, t: Tensor, smoothing: Tensor) -> Tensor:
        """ψ'(s)/s t_i/ν with s = |t_i|/ν, from the square where the potential needs no root."""
        s = t / smoothing
        return self.spread(self.potential.ratio_of_square(s.square().sum(1)), s)

    def curvature(self, t: Tensor, weight: Tensor, smoothing: Tensor) -> Callable[[Tensor], Tensor]:
        """w ψ'(s)/s across the direction n = t/|t| and w ψ''(s) along it, over ν."""
        size, factor = self.size(t), weight / smoothing
        across = (factor * self.potential.ratio(size / smoothing)).unsqueeze(1)
        along = (factor * self.potential.curvature(size / smoothing)).unsqueeze(1)
        direction = t / size.unsqueeze(1)
        difference = along - across

        def apply(v: Tensor) -> Tensor:
            return across * v + difference * direction * (direction * v).sum(1, keepdim=True)

        return apply


@fused
def _pull(t: Tensor, weight: Tensor, smoothing: Tensor, potential: EvenFunction) -> Tensor:
    return weight * potential.slope(t / smoothing)


@fused
def _total(t: Tensor, weight: Tensor, smoothing: Tensor, potential: EvenFunction) -> Tensor:
    return (weight * smoothing * potential.value(t / smoothing)).flatten(1).sum(1)


@fused
def _total_and_pull(
    t: Tensor, weight: Tensor, smoothing: Tensor, potential: EvenFunction
) -> tuple[Tensor, Tensor]:
    s = t / smoothing
    total = (weight * smoothing * potential.value(s)).flatten(1).sum(1)
    return total, weight * potential.slope(s)


@fused
def _curvature(t: Tensor, weight: Tensor, smoothing: Tensor, potential: EvenFunction) -> Tensor:
    return weight / smoothing * potential.curvature(t / smoothing)
