"""The Kullback-Leibler divergence from the data: Poisson noise."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.fidelities.weighted import WeightedFidelity
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.part import accounted_under
from bilevel.model.preconditioner import Stencil

__all__ = ["KullbackLeibler"]

ROUNDING = 1e-5
"""Data may lie so far below -background, relative to the largest of them."""
NEAR, TERMS = 0.1, 8
"""Where the divergence is a series, and its terms: 0.1^16/17 is below the eps of float64."""


class KullbackLeibler(WeightedFidelity):
    """weight times the Kullback-Leibler divergence of A x + background: Poisson noise.

    Ψ(A x; y) = w Σ t - z - z log(t/z) with t = A x + background and z = y + background >= 0.

    Up to a constant, peak/w times it is minus the log-likelihood of data drawn by
    :class:`~bilevel.data.PoissonNoise` of that ``peak`` and the same background: such y are counts
    over the peak, minus the background. The peak itself scales the energy alone and is asked for
    only where the noise level matters, by the rules that choose a weight.

    Where A x < 0 the sum goes on as its second-order Taylor polynomial at t = background, plus a
    wall whose second derivative grows to 2/background within one background: it is convex and
    twice differentiable everywhere, has a Lipschitz Hessian and grows in all directions that A
    sees, even where no count is; without a count and a regulariser A x would be -background.
    Minimisers with A x >= 0 are not affected. L = w ‖A‖² (max z/background² + 2/background): the
    smaller the background, the larger.

    Args:
        operator: A, the identity if None.
        background: that of the noise, > 0 [grey value].
        weight: w [1], fixed unless ``learn=("weight",)``.
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a background or weight that is not positive, an unknown name in ``learn``;
            later data below -background.

    Example:
        >>> fidelity = KullbackLeibler(background=1.0)
        >>> x, y = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
        >>> fidelity(x, y)  # 2 (1 - 2 + 2 log 2)
        tensor([0.7726])
        >>> fidelity.grad(x, y)  # 1 - 2/1
        tensor([[[[-1., -1.]]]])
    """

    degree = 1

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

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {**super().options(), "background": self.background}

    def check(self, y: Tensor) -> None:
        """Data of the operator, none below -background."""
        super().check(y)
        z = y + self.background
        if bool((z < -ROUNDING * z.abs().max()).any()):
            what = f"Poisson data lie above -background = {-self.background:g}"
            advice = "take the background of the noise, or clamp the data"
            raise InputError(what, given=f"a least value of {float(y.min()):.3g}", advice=advice)

    def mean(self, x: Tensor) -> Tensor:
        """T = A x + background, what the scaled counts are on average."""
        return self.operator(x) + self.background

    def counts(self, y: Tensor) -> Tensor:
        """Z = y + background, the counts over the peak."""
        return (y + self.background).clamp_min(0.0)

    def start(self, y: Tensor) -> Tensor:
        """As for Gaussian noise, not negative."""
        return super().start(y).clamp_min(0.0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Ψ(A x; y), (b,)."""
        return self._value(self.mean(x), self.counts(y))

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """W Aᵀ(1 - z/t) where A x >= 0."""
        return self._pull(self.mean(x), self.counts(y))

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with A x computed once."""
        t, z = self.mean(x), self.counts(y)
        return self._value(t, z), self._pull(t, z)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """W Aᵀ diag(z/t²) A where A x >= 0."""
        curvature = self.weight * self._curvature(self.mean(x), self.counts(y))
        return self._weighted(curvature)

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        """Those of AᵀA with z/t² at every datum."""
        gram = self.operator.gram_stencil(x)
        if gram is None:
            return None
        curvature = self.weight * self._curvature(self.mean(x), self.counts(y))
        return [gram.times(curvature.detach())]

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """From 0 to w ‖A‖² (max z/background² + 2/background), row by row."""
        greatest = self.counts(y).double().flatten(1).amax(1) / self.background**2
        lipschitz = self._scale(image_shape) * (greatest + 2 / self.background)
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
            if not self.log_weight.requires_grad:
                return total
            bent = rows.length(self.hessian(x, y)(q)) + turn
            pull, upper = rows.length(self.grad(x, y)), self.bounds(shape, y).lipschitz
            return total + Variation(0 * turn, bent * radius, pull + upper * radius)

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
        stiff = norm * (z.flatten(1).amax(1) / self.background**2 + 2 / self.background)
        bent = rows.length(self._curvature(t, z) * self.operator(q).double()) + change
        size, scale = rows.length(x), self.weight.detach().double() * sensitivity
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
        """L ‖x‖ + w ‖A‖ (√m + 2 ‖z‖/background), times what A adds to a few operations."""
        weight, norm = self.exact_weight, self._scale(image_shape) ** 0.5
        errors = self.operator.roundings / 2
        z = self.counts(y).double()
        offset = z[0].numel() ** 0.5 + 2 * rows.length(z) / self.background
        slope = errors * self.bounds(image_shape, y).lipschitz
        return Magnitude(slope, errors * weight.sqrt() * norm * offset)

    def _value(self, t: Tensor, z: Tensor) -> Tensor:
        s, u = self._parted(t)
        low = u.clamp_max(1.0)
        point = _divergence(s, z)
        point = point - self.background * u * (1 - z / s) + 0.5 * z * u.square()
        wall = low**3 / 6 + (u - low) * (u + low - 1) / 2
        point = point + 2 * self.background * wall
        return self.weight * point.flatten(1).sum(1)

    def _pull(self, t: Tensor, z: Tensor) -> Tensor:
        return self.weight * self.operator.adjoint(self._slope(t, z))

    def _slope(self, t: Tensor, z: Tensor) -> Tensor:
        s, u = self._parted(t)
        low = u.clamp_max(1.0)
        return 1 - z / s - (z / self.background) * u - low.square() - 2 * (u - low)

    def _curvature(self, t: Tensor, z: Tensor) -> Tensor:
        s, u = self._parted(t)
        return z / s.square() + (2 / self.background) * u.clamp_max(1.0)

    def _parted(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Max(t, background), and how far t is below, in units of the background."""
        s = t.clamp_min(self.background)
        return s, (s - t) / self.background

    def _steepness(self, t: Tensor, z: Tensor) -> Tensor:
        """Bounds the derivative of the curvature at t and above."""
        wall = (t < self.background).to(z) * (2 / self.background**2)
        return torch.maximum(2 * z / t.clamp_min(self.background) ** 3, wall)

    def _weighted(self, curvature: Tensor) -> LinearMap:
        return LinearMap(
            lambda v: self.operator.adjoint(curvature * self.operator(v)),
            lambda index: self._weighted(curvature[index]),
        )

    def _scale(self, image_shape: Shape) -> Tensor:
        return self.exact_weight * self.operator.gram_bounds(image_shape).upper


def _divergence(s: Tensor, z: Tensor) -> Tensor:
    """S - z - z log(s/z) for s > 0 and z >= 0, to a few eps of itself where s is near z.

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
