"""The squared Euclidean distance to the data: Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.fidelities.weighted import WeightedFidelity
from bilevel.model.objective import Summand
from bilevel.model.operators import Identity
from bilevel.model.operators.operator import Shape
from bilevel.model.preconditioner import Stencil

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
        gram, weight = self.operator.gram_bounds(image_shape), self.weight.detach().double()
        return Bounds.of(weight * gram.lower, weight * gram.upper)

    def spectrum(self, image_shape: Shape) -> Tensor | None:
        """W times the spectrum of AᵀA."""
        gram = self.operator.gram_spectrum(image_shape)
        return None if gram is None else self.weight.detach().double() * gram

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """The Hessian is constant; ∂∇Ψ/∂log w = ∇Ψ."""
        if not self.log_weight.requires_grad:
            return Variation.zero(x)
        with torch.no_grad():
            pull, turn = rows.norm(self.grad(x, y)), rows.norm(self.hessian(x, y)(q))
            upper = self.bounds((x.shape[1], x.shape[2], x.shape[3]), y).lipschitz
            return Variation(torch.zeros_like(turn), turn * radius, pull + upper * radius)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """Quadratic."""
        return Smoothness.quadratic(x)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """W ‖A‖² ‖x‖ + W ‖A‖ ‖y‖."""
        square = self.operator.gram_bounds(image_shape).upper
        weight, size = self.weight.detach().double(), rows.norm(y).double()
        return Magnitude((weight * square).expand(len(y)), weight * square**0.5 * size)


def _pull(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return weight * (x - y)
