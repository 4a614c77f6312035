"""What fidelities of counted light have in common: a function of the mean of each datum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.fidelities.weighted import WeightedFidelity
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.part import accounted_under
from bilevel.model.preconditioner import Stencil

__all__ = ["Photons", "Turned", "divergence"]

NEAR, TERMS = 0.1, 8
"""Where the divergence is a series, and its terms: 0.1^16/17 is below the eps of float64."""


class Turned(NamedTuple):
    """Of ψ'(t) by one parameter: ∂ψ'(t), and what bounds its slope in t wherever t may move."""

    here: Tensor
    slope: Tensor


class Photons(WeightedFidelity):
    """w Σ ψ(t; z) with t = A x + background and z = y + background.

    ψ is given where t >= background, as φ: convex in t, with φ'' and |φ'''| that fall as t grows.
    Where A x < 0 the sum goes on as its second-order Taylor polynomial at t = background, plus a
    wall whose second derivative grows to 2 stiffness/background within one background: it is
    convex and twice differentiable everywhere, has a Lipschitz Hessian and grows in all directions
    that A sees, even where no count is. Minimisers with A x >= 0 are not affected.
    """

    def __init__(
        self,
        operator: Operator | None = None,
        background: float = 0.01,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, background and weight."""
        super().__init__(operator, weight, learn=learn)
        self.background = check_positive(background, "the background")

    @abstractmethod
    def _phi(self, s: Tensor, z: Tensor) -> Tensor:
        """φ(s; z) of every datum, for s >= background."""

    @abstractmethod
    def _bent(self, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """φ'(s; z) and φ''(s; z)."""

    @abstractmethod
    def _third(self, s: Tensor, z: Tensor) -> Tensor:
        """|φ'''(s; z)|."""

    @abstractmethod
    def _most(self, z: Tensor) -> Tensor:
        """Bounds φ'' of every datum from above, for all s >= background; like ``z``, float64."""

    def _stiffness(self, like: Tensor) -> Tensor:
        """The unit of the wall, () in the precision of ``like``: what φ' tends to for large t."""
        return like.new_ones(())

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {**super().options(), "background": self.background}

    def mean(self, x: Tensor) -> Tensor:
        """t = A x + background, what the scaled counts are on average."""
        return self.operator(x) + self.background

    def counts(self, y: Tensor) -> Tensor:
        """z = y + background."""
        return y + self.background

    def start(self, y: Tensor) -> Tensor:
        """As for Gaussian noise, not negative."""
        return super().start(y).clamp_min(0.0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Ψ(A x; y), (b,)."""
        return self._value(self.mean(x), self.counts(y))

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """w Aᵀψ'(t)."""
        return self._pull(self.mean(x), self.counts(y))

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with A x computed once."""
        t, z = self.mean(x), self.counts(y)
        return self._value(t, z), self._pull(t, z)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """w Aᵀ diag(ψ''(t)) A."""
        curvature = self.weight * self._curvature(self.mean(x), self.counts(y))
        return self._weighted(curvature)

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        """Those of AᵀA with ψ''(t) at every datum, where data are as large as the image."""
        gram = self.operator.gram_stencil(x)
        if gram is None or y.shape != x.shape:
            return None
        curvature = self.weight * self._curvature(self.mean(x), self.counts(y))
        return [gram.times(curvature.detach())]

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """From 0 to w ‖A‖² (max φ'' + 2 stiffness/background), row by row."""
        lipschitz = self._scale(image_shape) * self._stiffest(self.counts(y).double())
        return Bounds.of(torch.zeros_like(lipschitz), lipschitz)

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """‖Aᵀ(δ A q)‖ with |δ| bounded by its values at t ± ‖A‖ radius, and by its slope there."""
        with torch.no_grad():
            shape = (x.shape[1], x.shape[2], x.shape[3])
            norm = self.operator.gram_bounds(shape).upper ** 0.5
            weight = self.exact_weight
            t, z = self.mean(x).double(), self.counts(y).double()
            reach, aq = rows.expand(norm * radius.double(), t), self.operator(q).double().abs()
            here = self._curvature(t, z)
            jump = torch.maximum(
                self._curvature(t - reach, z) - here, here - self._curvature(t + reach, z)
            )
            steepest = (self._steepness(t - reach, z) * aq).flatten(1).amax(1)
            change = torch.minimum(rows.length(jump * aq), steepest * norm * radius)
            turn = weight * norm * change
            total = Variation(turn, *self._turned(x, y, q, radius.double(), change))
            for part in self._by_parameters(t, z, reach):
                cross = weight * norm * rows.length(part.slope * aq) * radius
                pull = rows.length(part.here) + part.slope.flatten(1).amax(1) * norm * radius
                total = total + Variation(0 * turn, cross, weight * norm * pull)
            if not self.log_weight.requires_grad:
                return total
            bent = rows.length(self.hessian(x, y)(q)) + turn
            pull, upper = rows.length(self.grad(x, y)), self.bounds(shape, y).lipschitz
            return total + Variation(0 * turn, bent * radius, pull + upper * radius)

    def _by_parameters(self, t: Tensor, z: Tensor, reach: Tensor) -> Sequence[Turned]:
        """Of every learnable parameter of φ, for means that move by up to ``reach``."""
        del t, z, reach
        return ()

    def _turned(
        self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor, change: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross and its norm by θ of A: B δ = w ((∂A δ)ᵀ s + Aᵀ c (∂A δ) x), s = ψ'(t), c = ψ''(t).

        ``change`` (b,) bounds ‖(c' - c) A q‖ over the ball.
        """
        shape = x.shape[1], x.shape[2], x.shape[3]
        sensitivity = self.operator.sensitivity(shape)
        if sensitivity == 0:
            return torch.zeros_like(change), torch.zeros_like(change)
        t, z = self.mean(x).double(), self.counts(y).double()
        norm = self.operator.gram_bounds(shape).upper ** 0.5
        stiff = norm * self._stiffest(z)
        bent = rows.length(self._curvature(t, z) * self.operator(q)) + change
        size, scale = rows.length(x).double(), self.weight.detach() * sensitivity
        cross = (rows.length(q) * stiff + bent) * radius + change * size
        pull = rows.length(self._slope(t, z)) + stiff * (size + 2 * radius)
        return torch.where(cross > 0, scale * cross, 0.0), scale * pull

    def accounted(self) -> frozenset[str]:
        """The weight, and what the operator has."""
        return accounted_under("operator", self.operator) | {"log_weight"}

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """No kinks; w ‖A‖³ times the largest third derivative in the ball."""
        norm = self.operator.gram_bounds((x.shape[1], x.shape[2], x.shape[3])).upper ** 0.5
        t, z = self.mean(x).double(), self.counts(y).double()
        steepest = self._steepness(t - rows.expand(norm * radius.double(), t), z)
        lipschitz = self.exact_weight * norm**3 * steepest.flatten(1).amax(1)
        return Smoothness(torch.zeros_like(lipschitz), lipschitz)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """L ‖x‖ and the size of the terms of w Aᵀψ', times what A adds to a few operations."""
        weight, norm = self.exact_weight, self._scale(image_shape) ** 0.5
        errors = self.operator.roundings / 2
        slope = errors * self.bounds(image_shape, y).lipschitz
        return Magnitude(slope, errors * weight.sqrt() * norm * self._offset(self.counts(y)))

    @abstractmethod
    def _offset(self, z: Tensor) -> Tensor:
        """Bounds the norm of the terms that make up φ' where A x = 0, (b,) float64."""

    def _value(self, t: Tensor, z: Tensor) -> Tensor:
        s, u = self._parted(t)
        low = u.clamp_max(1.0)
        slope, curvature = self._bent(s, z)
        below = self.background * u
        point = self._phi(s, z) - below * slope + 0.5 * below.square() * curvature
        wall = low**3 / 6 + (u - low) * (u + low - 1) / 2
        point = point + 2 * self._stiffness(t) * self.background * wall
        return self.weight * point.flatten(1).sum(1)

    def _pull(self, t: Tensor, z: Tensor) -> Tensor:
        return self.weight * self.operator.adjoint(self._slope(t, z))

    def _slope(self, t: Tensor, z: Tensor) -> Tensor:
        s, u = self._parted(t)
        low = u.clamp_max(1.0)
        slope, curvature = self._bent(s, z)
        wall = low.square() + 2 * (u - low)
        return slope - self.background * u * curvature - self._stiffness(t) * wall

    def _curvature(self, t: Tensor, z: Tensor) -> Tensor:
        s, u = self._parted(t)
        wall = (2 * self._stiffness(t) / self.background) * u.clamp_max(1.0)
        return self._bent(s, z)[1] + wall

    def _parted(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Max(t, background), and how far t is below, in units of the background."""
        s = t.clamp_min(self.background)
        return s, (s - t) / self.background

    def _steepness(self, t: Tensor, z: Tensor) -> Tensor:
        """Bounds the derivative of the curvature at t and above."""
        wall = (t < self.background).to(z) * (2 * self._stiffness(z) / self.background**2)
        return torch.maximum(self._third(t.clamp_min(self.background), z), wall)

    def _stiffest(self, z: Tensor) -> Tensor:
        """Bounds the curvature of all data of a row, (b,) float64."""
        wall = 2 * self._stiffness(z) / self.background
        return self._most(z).flatten(1).amax(1) + wall

    def _weighted(self, curvature: Tensor) -> LinearMap:
        return LinearMap(
            lambda v: self.operator.adjoint(curvature * self.operator(v)),
            lambda index: self._weighted(curvature[index]),
        )

    def _scale(self, image_shape: Shape) -> Tensor:
        return self.exact_weight * self.operator.gram_bounds(image_shape).upper


def divergence(s: Tensor, z: Tensor) -> Tensor:
    """s - z - z log(s/z) for s > 0 and z >= 0, to a few eps of itself where s is near z.

    With v = (s - z)/(s + z), log(s/z) = 2 artanh v, whose series is as short as v is small.
    """
    v = (s - z) / (s + z)
    square = torch.where(v.abs() < NEAR, v, 0.0).square()
    series = torch.zeros_like(square)
    for k in range(TERMS, 0, -1):
        series = 1 / (2 * k + 1) + square * series
    near = 2 * z * square * (1 / (1 - v.clamp_max(NEAR)) - v * series)
    far = s - z - z * torch.log(s / z.clamp_min(torch.finfo(z.dtype).tiny * 1e9))
    return torch.where(v.abs() < NEAR, near, far)
