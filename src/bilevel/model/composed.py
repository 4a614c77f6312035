"""A function of A x for a linear operator A: what becomes of derivatives and bounds, once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.smooth import Smooth

__all__ = ["ComposedSmooth", "composed"]


def composed(function: Smooth | GroupNorm, operator: Operator) -> Smooth | GroupNorm:
    """x -> ``function`` of A x."""
    if isinstance(function, GroupNorm):
        return replace(function, operator=function.operator @ operator)
    return ComposedSmooth(function, operator)


@dataclass(frozen=True)
class ComposedSmooth(Smooth):
    """x -> T(A x); what is diagonal in the Fourier basis for T is not so here.

    About derivatives by parameters of A nothing is claimed.
    """

    inner: Smooth
    operator: Operator

    def value(self, x: Tensor) -> Tensor:
        """T(A x)."""
        return self.inner.value(self.operator(x))

    def grad(self, x: Tensor) -> Tensor:
        """Aᵀ ∇T(A x)."""
        return self.operator.adjoint(self.inner.grad(self.operator(x)))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with A x computed once."""
        value, slope = self.inner.value_and_grad(self.operator(x))
        return value, self.operator.adjoint(slope)

    def hessian(self, x: Tensor) -> LinearMap:
        """Aᵀ ∇²T(A x) A."""
        return self._widened(self.inner.hessian(self.operator(x)))

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """Aᵀ M A."""
        found = self.inner.majoriser(self.operator(x))
        return None if found is None else self._widened(found)

    def _widened(self, inner: LinearMap) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            return self.operator.adjoint(inner(self.operator(v)))

        return LinearMap(apply, lambda index: self._widened(inner.rows(index)))

    def bounds(self, shape: Shape) -> Bounds:
        """Times the eigenvalues of AᵀA."""
        own, gram = self.inner.bounds(self._seen(shape)), self.operator.gram_bounds(shape)
        mu = own.mu * torch.where(own.mu > 0, gram.lower, gram.upper)
        return replace(own, mu=mu, lipschitz=own.lipschitz * gram.upper)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """‖Aᵀ ΔH A q‖ <= ‖A‖ ‖ΔH A q‖, over a ball ‖A‖ times as large."""
        norm = self._norm(x)
        own = self.inner.variation(self.operator(x), self.operator(q), self._reach(x, radius))
        return Variation(norm * own.hessian, own.cross, norm * own.cross_norm)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """‖Aᵀ ΔH A‖ <= ‖A‖² L ‖A‖ ‖x' - x‖."""
        own = self.inner.smoothness(self.operator(x), self._reach(x, radius))
        return replace(own, lipschitz=self._norm(x) ** 3 * own.lipschitz)

    def magnitude(self, shape: Shape) -> Magnitude:
        """‖Aᵀ‖ times that of T at A x."""
        own, norm = self.inner.magnitude(self._seen(shape)), self._norm_on(shape)
        return Magnitude(norm**2 * own.slope, norm * own.offset)

    def rows(self, index: Tensor) -> ComposedSmooth:
        """Those rows of T."""
        return replace(self, inner=self.inner.rows(index))

    def _reach(self, x: Tensor, radius: Tensor) -> Tensor:
        """How far A x may move, its rounding counted in."""
        allowance = self.operator.roundings * torch.finfo(x.dtype).eps * rows.norm(x)
        return self._norm(x) * (radius + allowance.to(radius))

    def _norm(self, x: Tensor) -> float:
        return self._norm_on((x.shape[1], x.shape[2], x.shape[3]))

    def _norm_on(self, shape: Shape) -> float:
        return self.operator.gram_bounds(shape).upper ** 0.5

    def _seen(self, shape: Shape) -> Shape:
        return self.operator.data_shape(shape)
