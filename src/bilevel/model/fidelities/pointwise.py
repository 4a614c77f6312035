"""Fidelities that look at every datum by itself: sums of functions of (A x)_i and y_i."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.fidelities.weighted import WeightedFidelity
from bilevel.model.operators.operator import Shape
from bilevel.model.part import accounted_under
from bilevel.model.preconditioner import Stencil

__all__ = ["Pointwise", "Turned"]


class Turned(NamedTuple):
    """Of ψ'(t) by one parameter p: ∂ψ'(t)/∂p, and how it may change where t moves.

    At every datum ``slope`` bounds its derivative by t between kinks, wherever t may move, and
    ``leap`` by how much it may jump at those that t may cross. A parameter that is a map has a
    ``shape`` that multiplies data.
    """

    here: Tensor
    slope: Tensor
    leap: Tensor | None = None
    shape: tuple[int, ...] = ()


class Pointwise(WeightedFidelity):
    """w Σ_i ψ(t_i; z_i), t = A x or a shift of it, z what is made of the data.

    Subclasses give ψ, ψ' and ψ'', and what these can be where t moves; derivatives, constants and
    error bounds of Ψ follow. All tensors are as large as the data, (b, c', h', w').
    """

    convex: ClassVar[bool] = True
    """Whether ψ is, whatever the data."""
    evaluation: ClassVar[float] = 0.0
    """How many eps a computed ψ' is off, beyond those of A x and of a few operations."""

    @abstractmethod
    def _point(self, t: Tensor, z: Tensor) -> Tensor:
        """ψ(t; z) of every datum."""

    @abstractmethod
    def _slope(self, t: Tensor, z: Tensor) -> Tensor:
        """ψ'(t; z)."""

    @abstractmethod
    def _curvature(self, t: Tensor, z: Tensor) -> Tensor:
        """ψ''(t; z)."""

    @abstractmethod
    def _extremes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Proved bounds of ψ'' over all t and all data of a row, (b,) float64 each."""

    @abstractmethod
    def _jump(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """Bounds |ψ''(t') - ψ''(t)| for |t' - t| <= ``reach`` (b, 1, 1, 1), datum by datum."""

    @abstractmethod
    def _steepness(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """Bounds |ψ'''| between kinks for such t'; datum by datum."""

    @abstractmethod
    def _offset(self, z: Tensor) -> Tensor:
        """Bounds the norm of the terms that make up ψ' where A x = 0, (b,) float64."""

    def _crossing(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """Which data may cross a jump of ψ'' within ``reach``; none unless overridden."""
        del z, reach
        return torch.zeros_like(t, dtype=torch.bool)

    def _majorised(self, t: Tensor, z: Tensor) -> Tensor | None:
        """m with ψ(t + d) <= ψ(t) + ψ'(t) d + m d²/2 for every d; None unless overridden."""
        del t, z

    def _by_parameters(self, t: Tensor, z: Tensor, reach: Tensor) -> Sequence[Turned]:
        """Of every learnable parameter of ψ, for t that moves by up to ``reach``."""
        del t, z, reach
        return ()

    def _predicted(self, x: Tensor) -> Tensor:
        """t."""
        return self.operator(x)

    def _observed(self, y: Tensor) -> Tensor:
        """z."""
        return y

    def broadcasts(self) -> frozenset[str]:
        """The weight; subclasses add what else may have a value a row."""
        return frozenset({"log_weight"})

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Ψ(A x; y), (b,)."""
        return self._value(self._predicted(x), self._observed(y))

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """w Aᵀψ'(t)."""
        return self._pull(self._predicted(x), self._observed(y))

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with A x computed once."""
        t, z = self._predicted(x), self._observed(y)
        return self._value(t, z), self._pull(t, z)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """w Aᵀ diag(ψ''(t)) A."""
        curvature = self.weight * self._curvature(self._predicted(x), self._observed(y))
        return self._between(curvature)

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap | None:
        """w Aᵀ diag(m) A, where such m are known."""
        found = self._majorised(self._predicted(x), self._observed(y))
        return None if found is None else self._between(self.weight * found)

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        """Those of AᵀA with ψ''(t) at every datum, where data are as large as the image.

        Where ψ is not convex, with m of a majoriser in place of ψ''; none if that is not known.
        """
        gram = self.operator.gram_stencil(x)
        if gram is None or y.shape != x.shape:
            return None
        t, z = self._predicted(x), self._observed(y)
        found = self._curvature(t, z) if self.convex else self._majorised(t, z)
        return None if found is None else [gram.times((self.weight * found).detach())]

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """w times the bounds of ψ'', times those of AᵀA; row by row."""
        low, high = self._extremes(self._observed(y))
        gram, weight = self.operator.gram_bounds(image_shape), self.exact_weight
        mu = torch.where(low < 0, gram.upper * low, gram.lower * low)
        return Bounds.of(weight * mu, weight * gram.upper * torch.maximum(high, -low))

    def _stiffest(self, z: Tensor) -> Tensor:
        """Bounds |ψ''| of all data of a row, (b,) float64."""
        low, high = self._extremes(z)
        return torch.maximum(high, -low)

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """From every datum: ‖Aᵀ(δ A q)‖ with |δ| bounded by its jumps, and by its slopes."""
        with torch.no_grad():
            norm, weight = self._norm(x), self.exact_weight
            t, z = self._predicted(x).double(), self._observed(y).double()
            move = norm * radius.double()
            reach, aq = rows.expand(move, t), self.operator(q).double().abs()
            wide = reach + self._slack(x, y)
            crossing, jump = self._crossing(t, z, wide), self._jump(t, z, wide)
            sudden = rows.length(torch.where(crossing, jump * aq, 0.0))
            steepest = (self._steepness(t, z, reach) * aq).flatten(1).amax(1)
            change = torch.minimum(rows.length(jump * aq), steepest * move + sudden)
            turn = weight * norm * change
            total = Variation(turn, *self._turned(x, y, q, radius.double(), change))
            for part in self._by_parameters(t, z, reach):
                leap = 0.0 if part.leap is None else torch.where(crossing, part.leap, 0.0)
                sharp, most = part.slope * aq, part.slope.flatten(1).amax(1)
                cross = rows.grouped_norm(sharp, part.shape) * move + _sum(leap * aq)
                pull = rows.grouped_norm(part.here.abs() + leap, part.shape) + most * move
                total = total + Variation(0 * turn, weight * cross, weight * norm * pull)
            if not self.log_weight.requires_grad:
                return total
            bent, pull = rows.length(self.hessian(x, y)(q)) + turn, rows.length(self.grad(x, y))
            upper = weight * norm**2 * self._stiffest(z)
            return total + Variation(0 * turn, bent * radius, pull + upper * radius)

    def _turned(
        self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor, change: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross and its norm by θ of A: B δ = w ((∂A δ)ᵀ s + Aᵀ c (∂A δ) x), s = ψ'(t), c = ψ''(t).

        ``change`` (b,) bounds ‖(c' - c) A q‖ over the ball.
        """
        sensitivity = self.operator.sensitivity((x.shape[1], x.shape[2], x.shape[3]))
        if sensitivity == 0:
            return torch.zeros_like(change), torch.zeros_like(change)
        t, z = self._predicted(x).double(), self._observed(y).double()
        stiff = self._norm(x) * self._stiffest(z)
        bent = rows.length(self._curvature(t, z) * self.operator(q)) + change
        size, scale = rows.length(x).double(), self.weight.detach() * sensitivity
        cross = (rows.length(q) * stiff + bent) * radius + change * size
        pull = rows.length(self._slope(t, z)) + stiff * (size + 2 * radius)
        return torch.where(cross > 0, scale * cross, 0.0), scale * pull

    def accounted(self) -> frozenset[str]:
        """The weight, and what the operator has; subclasses add the parameters of ψ."""
        return accounted_under("operator", self.operator) | {"log_weight"}

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """The kinks in the ball, and w ‖A‖³ times the largest third derivative between them."""
        with torch.no_grad():
            norm = self._norm(x)
            t, z = self._predicted(x).double(), self._observed(y).double()
            reach = rows.expand(norm * radius.double(), t)
            steepest = self._steepness(t, z, reach).flatten(1).amax(1)
            crossing = self._crossing(t, z, reach + self._slack(x, y))
            return Smoothness.of(crossing, self.exact_weight * norm**3 * steepest)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """‖A‖² max|ψ''| ‖x‖ and the terms of w Aᵀψ', times what A adds to a few operations."""
        gram, z = self.operator.gram_bounds(image_shape).upper, self._observed(y)
        scale = self.exact_weight * (self.operator.roundings + self.evaluation) / 2
        slope = scale * gram * self._stiffest(z)
        return Magnitude(slope.expand(len(y)), scale * gram**0.5 * self._offset(z))

    def _value(self, t: Tensor, z: Tensor) -> Tensor:
        return _sum(self.weight * self._point(t, z))

    def _pull(self, t: Tensor, z: Tensor) -> Tensor:
        return self.weight * self.operator.adjoint(self._slope(t, z))

    def _between(self, curvature: Tensor) -> LinearMap:
        return LinearMap(
            lambda v: self.operator.adjoint(curvature * self.operator(v)),
            lambda index: self._between(curvature[index]),
        )

    def _norm(self, x: Tensor) -> float:
        """‖A‖ on images like ``x``."""
        return self.operator.gram_bounds((x.shape[1], x.shape[2], x.shape[3])).upper ** 0.5

    def _slack(self, x: Tensor, y: Tensor) -> Tensor:
        """What rounding may move a datum of A x - y by, (b, 1, 1, 1) float64."""
        eps = torch.finfo(x.dtype).eps
        size = self._norm(x) * rows.length(x) + rows.norm_inf(y)
        return rows.expand((2 + self.operator.roundings) * eps * size.double(), x)


def _sum(points: Tensor) -> Tensor:
    return points.flatten(1).sum(1)
