"""What total generalised variation and infimal convolutions share: α |K₁ x| + β |K₂ x|."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.bounds import Reach
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.regularisers.symmetrised import (
    DIFFERENCES,
    Bends,
    Curves,
    Parting,
    Slopes,
    norm_of_differences,
)

__all__ = ["FORM_OF_ICTV", "FORM_OF_TGV", "Form", "Lengths"]

Lengths = tuple[Tensor, Tensor]
"""|(K₁x)_i| and |(K₂x)_i|, over all groups i."""


class Form(ABC):
    """Two operators K₁ and K₂ on states (u, further channels), and what is proved of them."""

    further: int
    first: Operator
    second: Operator

    @abstractmethod
    def joint_bound(self, alpha: Tensor, beta: Tensor, shape: Shape) -> Tensor:
        """A proved upper bound of ‖α K₁ᵀK₁ + β K₂ᵀK₂‖ on images of that size."""

    @abstractmethod
    def row_norms(self) -> tuple[float, float]:
        """Proved upper bounds of ‖(K₁)_i‖ and ‖(K₂)_i‖, all rows of a group together."""

    @abstractmethod
    def pull(self, slope: Tensor, coupled: bool) -> tuple[Tensor, Tensor]:
        """(M, s), (b,) float64 each, of a slope in the further channels, known within ``noise``.

        For any two further channels ω, ω' whose sums agree, for ICTV, ⟨slope, ω - ω'⟩ <=
        (M + s noise) Σ_i |(K₁(0, ω - ω'))_i|.
        """

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """K₁x (b, 2c, h, w) and K₂x (b, 3c, h, w)."""
        return self.first.forward(x), self.second.forward(x)

    def adjoint(self, p: Tensor, q: Tensor) -> Tensor:
        """K₁ᵀp + K₂ᵀq."""
        return self.first.adjoint(p) + self.second.adjoint(q)

    @cached_property
    def filters(self) -> tuple[Tensor, Tensor]:
        """Both operators away from the border as stencils (m, 1 + further, 3, 3), for one image."""
        count = 1 + self.further
        units = torch.zeros(count, count, 5, 5, dtype=torch.float64)
        units[range(count), range(count), 2, 2] = 1
        seen = (k.forward(units)[..., 1:4, 1:4].flip(2, 3) for k in (self.first, self.second))
        first, second = (part.transpose(0, 1) for part in seen)
        return first, second

    def reach(
        self,
        x: Tensor,
        slope: Tensor,
        value: Tensor,
        near: Tensor,
        *,
        weights: tuple[float, float],
        lag: float,
        coupled: bool,
    ) -> Reach:
        """How far ``slope`` may lead in the further channels ω of x = (u, ω).

        G(x) = α Σ φ(|K₁x|_i) + β Σ φ(|K₂x|_i) = ``value``, |t| - ``lag`` <= φ(t) <= |t| with φ'
        <= 1, ``near`` = Σ |K₁x|_i over N groups. Let |u' - u| <= d and ω' minimise G(u', ·). Since
        G(u', ω') <= G(u', ω) <= G(x) + α √N ‖D‖ d,

            Σ |K₁(0, ω - ω')|_i <= Σ |K₁(u', ω')|_i + Σ |K₁(u', ω)|_i
                <= G(x)/α + √N ‖D‖ d + N lag + near + √N ‖D‖ d.

        Rounded features are those of a state within a few eps of x: that is added.
        """
        alpha, beta = weights
        shape = x.shape[1], x.shape[2], x.shape[3]
        count = math.prod(shape) // (1 + self.further) / (1 if not coupled else self._images(x))
        eps, root = torch.finfo(x.dtype).eps, math.sqrt(count)
        first, second = (k.gram_bounds(shape).upper ** 0.5 for k in (self.first, self.second))
        noise = 8 * eps * root * (2 * first + beta / alpha * second) * rows.length(x)
        offset = (value.double() / alpha + near.double()) * (1 + 64 * eps) + count * lag + noise
        growth = 2 * root * norm_of_differences(shape) ** 0.5 * (1 + 1e-12)
        steep, sensitivity = self.pull(slope, coupled)
        return Reach(steep, sensitivity, offset, torch.full_like(offset, growth))

    def _images(self, x: Tensor) -> int:
        return x.shape[1] // (1 + self.further)


class _FormOfTGV(Form):
    """K₁(u, w) = D u - w and K₂(u, w) = E w."""

    further = 2
    first, second = Slopes(), Bends()

    def joint_bound(self, alpha: Tensor, beta: Tensor, shape: Shape) -> Tensor:
        """The largest eigenvalue of [[d α, √d α], [√d α, α + d β]], d = ‖D‖² >= ‖E‖².

        As α ‖D u - w‖² + β ‖E w‖² <= α (√d ‖u‖ + ‖w‖)² + d β ‖w‖²; with d = 8 and α = β this is
        (17 + √33)/2 α.
        """
        d = norm_of_differences(shape)
        mean, half = ((d + 1) * alpha + d * beta) / 2, ((d - 1) * alpha - d * beta) / 2
        return mean + (half.square() + d * alpha.square()).sqrt()

    def row_norms(self) -> tuple[float, float]:
        """The largest eigenvalues of [[3, 1], [1, 3]], and of 2 I with 1/√2 to the mixed entry."""
        return 2.0, math.sqrt(3)

    def pull(self, slope: Tensor, coupled: bool) -> tuple[Tensor, Tensor]:
        """The largest length of the slope: K₁(0, w) = -w."""
        return _largest(slope, coupled), torch.ones_like(slope[:, 0, 0, 0], dtype=torch.float64)


class _FormOfICTV(Form):
    """K₁(u, v) = D (u - v) and K₂(u, v) = E D v, so that ICTV is TGV where w = D v."""

    further = 1
    first, second = Parting(), Curves()

    def joint_bound(self, alpha: Tensor, beta: Tensor, shape: Shape) -> Tensor:
        """d times the largest eigenvalue of [[α, -α], [-α, α + d β]], d = ‖D‖² >= ‖E‖².

        As α ‖D u - D v‖² + β ‖E D v‖² is at most that form of D u and D v; with d = 8 and α = β
        this is (40 + √1088) α.
        """
        d = norm_of_differences(shape)
        return d * (alpha + d * beta / 2 + (alpha.square() + (d * beta / 2).square()).sqrt())

    def row_norms(self) -> tuple[float, float]:
        """The largest eigenvalues of [[4, 2], [2, 4]] and [[6, 4, 6/√2], [4, 6, 6/√2], [., ., 5]].

        The latter is 14, at (1, 1, 2√2/3).
        """
        return math.sqrt(6), math.sqrt(14)

    def pull(self, slope: Tensor, coupled: bool) -> tuple[Tensor, Tensor]:
        """The largest length of a flux p with Dᵀp = slope, by the cosine transform.

        What of the slope it misses, and the noise, are orthogonal to constants and count by
        ‖v‖ <= ‖D v‖/σ for v of mean 0, σ the least singular value of D that is not 0.
        """
        side = max(slope.shape[2:])
        gap = 2 * math.sin(math.pi / (2 * side)) if side > 1 else math.inf
        flux = DIFFERENCES(_potential(slope))
        rest = rows.length(slope - DIFFERENCES.adjoint(flux)) / gap * (1 + 1e-12)
        size = rows.length(flux) + rows.length(slope)
        rounding = 16 * torch.finfo(slope.dtype).eps * size / gap
        return _largest(flux, coupled) + rest + rounding, torch.full_like(rest, 1 / gap)


def _potential(slope: Tensor) -> Tensor:
    """A v with DᵀD v = slope, but for its mean: even images are as good as periodic ones."""
    h, w = slope.shape[2:]
    even = torch.cat([slope, slope.flip(-2)], -2)
    even = torch.cat([even, even.flip(-1)], -1)
    spectrum = cast(Tensor, torch.fft.rfft2(even))

    def axis(size: int, count: int) -> Tensor:
        angle = torch.arange(count, dtype=torch.float64) * (math.pi / size)
        return (2 - 2 * angle.cos()).to(slope)

    symbol = axis(h, 2 * h)[:, None] + axis(w, w + 1)
    symbol[0, 0] = torch.inf
    return cast(Tensor, torch.fft.irfft2(spectrum / symbol, s=even.shape[2:]))[..., :h, :w]


def _largest(field: Tensor, coupled: bool) -> Tensor:
    """max_i |field_i|, (b,) float64, not rounded downwards; row and column parts in two halves."""
    parts = field.shape[1] if coupled else 2
    square = cast(Tensor, field.double().unflatten(1, (parts, -1))).square().sum(1)
    return rows.norm_inf(square).sqrt() * (1 + 1e-12)


FORM_OF_TGV, FORM_OF_ICTV = _FormOfTGV(), _FormOfICTV()
