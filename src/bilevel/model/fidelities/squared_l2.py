"""The squared Euclidean distance to the data: Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.fidelities.weighted import WeightedFidelity, around_data
from bilevel.model.operators import Identity
from bilevel.model.operators.operator import Shape
from bilevel.model.operators.turned import turned
from bilevel.model.part import accounted_under
from bilevel.model.preconditioner import Stencil
from bilevel.model.smooth import Summand

__all__ = ["SquaredL2"]


class SquaredL2(WeightedFidelity):
    """weight/2 ‖A x - y‖²: Gaussian noise.

    Ψ(A x; y) = w/2 ‖A x - y‖².

    The weight is fixed at 1 unless ``learn=("weight",)``.

    Args:
        operator: A, the identity if None.
        weight: factor w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``.

    Example:
        >>> SquaredL2()(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item()
        2.0
    """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """w/2 ‖A x - y‖², (b,)."""
        return 0.5 * self.weight * (self.operator(x) - y).square().flatten(1).sum(1)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """W Aᵀ(A x - y)."""
        return self.weight * self.operator.adjoint(self.operator(x) - y)

    def summands(self, y: Tensor) -> tuple[Summand, ...] | None:
        """W (x - y) for the identity."""
        return ((_pull, (y, self.weight)),) if isinstance(self.operator, Identity) else None

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with A x computed once."""
        residual = self.operator(x) - y
        value = 0.5 * self.weight * residual.square().flatten(1).sum(1)
        return value, self.weight * self.operator.adjoint(residual)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """W AᵀA."""
        return LinearMap.shared(lambda v: self.weight * self.operator.adjoint(self.operator(v)))

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap:
        """The Hessian itself."""
        return self.hessian(x, y)

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        """For denoising, missing pixels and convolutions."""
        gram = self.operator.gram_stencil(x)
        return None if gram is None else [gram.times(self.weight.detach())]

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """W times the bounds of AᵀA."""
        gram, weight = self.operator.gram_bounds(image_shape), self.exact_weight
        return Bounds.of(weight * gram.lower, weight * gram.upper)

    def spectrum(self, image_shape: Shape) -> Tensor | None:
        """W times the spectrum of AᵀA."""
        gram = self.operator.gram_spectrum(image_shape)
        return None if gram is None else self.exact_weight * gram

    def accounted(self) -> frozenset[str]:
        """The weight, and what the operator has."""
        return accounted_under("operator", self.operator) | {"log_weight"}

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """The Hessian is constant; ∂∇Ψ/∂log w = ∇Ψ, and by θ of A as in :func:`turned`."""
        shape = x.shape[1], x.shape[2], x.shape[3]
        with torch.no_grad():
            residual = self.operator(x) - y
            total = turned(self.operator, self.weight, x, residual, q, radius)
            if not self.log_weight.requires_grad:
                return total
            pull = rows.length(self.weight * self.operator.adjoint(residual))
            turn, upper = rows.length(self.hessian(x, y)(q)), self.bounds(shape, y).lipschitz
            nothing = torch.zeros_like(total.hessian)
            return total + Variation(nothing, turn * radius, pull + upper * radius)

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Around the data, where pixels are seen."""
        return around_data(self.operator, y, lower, upper)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """Quadratic."""
        return Smoothness.quadratic(x)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """W ‖A‖² ‖x‖ + W ‖A‖ ‖y‖, times what A adds to the rounding of a few operations."""
        square = self.operator.gram_bounds(image_shape).upper
        weight, size = self.exact_weight * self.operator.roundings / 2, rows.length(y)
        return Magnitude((weight * square).expand(len(y)), weight * square**0.5 * size)


def _pull(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return weight * (x - y)
