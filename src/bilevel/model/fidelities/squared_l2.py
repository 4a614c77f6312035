"""The squared Euclidean distance to the data: Gaussian noise."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.fidelities.weighted import WeightedFidelity, around_data
from bilevel.model.operators import Identity
from bilevel.model.operators.inputs import real_tensor
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.operators.turned import turned
from bilevel.model.part import accounted_under
from bilevel.model.preconditioner import Stencil
from bilevel.model.smooth import Summand

__all__ = ["SquaredL2"]


class SquaredL2(WeightedFidelity):
    """weight/2 ‖A x - y‖²: Gaussian noise.

    Ψ(A x; y) = w/2 ‖A x - y‖²; with weights of the data w/2 Σ m (A x - y)².

    The weight is fixed at 1 unless ``learn=("weight",)``. Noise of another variance in every datum
    asks for m = 1/variance (:meth:`of_variance`), data that are not to be trusted for m = 0.

    Args:
        operator: A, the identity if None.
        weight: factor w [1].
        weights: m >= 0 of every datum, (h', w') for all channels or (c', h', w'), the same for all
            rows; 1 if None.
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``; weights that are
            negative, not finite, or 0 everywhere; later data that they do not fit.

    Example:
        >>> SquaredL2()(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item()
        2.0
        >>> seen = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> SquaredL2(weights=seen)(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item()
        1.5
    """

    weights: Tensor | None

    def __init__(
        self,
        operator: Operator | None = None,
        weight: float = 1.0,
        weights: Tensor | None = None,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, weight and weights of the data."""
        super().__init__(operator, weight, learn=learn)
        self.register_buffer("weights", None if weights is None else _checked(weights))

    @staticmethod
    def of_variance(
        variance: Tensor,
        operator: Operator | None = None,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> SquaredL2:
        """Of noise with that variance in every datum: minus the log-likelihood, with w = 1.

        Args:
            variance: (h', w') or (c', h', w') [grey value squared]; inf for data not seen.
            operator: as for the class.
            weight: likewise.
            learn: likewise.

        Raises:
            InputError: a variance that is not positive, or none that is finite.

        Example:
            >>> fidelity = SquaredL2.of_variance(torch.tensor([[4.0, torch.inf]]))
            >>> fidelity.weights
            tensor([[0.2500, 0.0000]])
        """
        if not bool((variance > 0).all()):
            what = "a variance must be positive; inf stands for data that are not seen"
            raise InputError(what, given=float(variance.min()))
        return SquaredL2(operator, weight, 1 / variance, learn=learn)

    def options(self) -> dict[str, object]:
        """What builds it again."""
        own = {} if self.weights is None else {"weights": self.weights}
        return {**super().options(), **own}

    def check(self, y: Tensor) -> None:
        """Data of the operator, of the size of the weights."""
        super().check(y)
        if self.weights is not None and y.shape[-self.weights.ndim :] != self.weights.shape:
            given = f"weights {tuple(self.weights.shape)} for data {tuple(y.shape[1:])}"
            raise InputError("every datum needs a weight", given=given)

    def start(self, y: Tensor) -> Tensor:
        """That of the operator, from the data that count."""
        if self.weights is None:
            return super().start(y)
        return super().start(torch.where(self.weights > 0, y, 0.0))

    def compared(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """√m A x and √m y."""
        if self.weights is None:
            return super().compared(x, y)
        root = self.weights.sqrt()
        return root * self.operator(x), root * y

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """w/2 Σ m (A x - y)², (b,)."""
        residual = self.operator(x) - y
        return 0.5 * self.weight * (self._weighed(residual) * residual).flatten(1).sum(1)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """w Aᵀ m (A x - y)."""
        return self.weight * self.operator.adjoint(self._weighed(self.operator(x) - y))

    def _weighed(self, residual: Tensor) -> Tensor:
        return residual if self.weights is None else self.weights * residual

    def _extent(self) -> tuple[float, float]:
        """The least and the greatest m, not rounded inwards."""
        if self.weights is None:
            return 1.0, 1.0
        m = self.weights.double()
        return float(m.min()), float(m.max())

    def summands(self, y: Tensor) -> tuple[Summand, ...] | None:
        """w m (x - y) for the identity."""
        if not isinstance(self.operator, Identity):
            return None
        return ((_pull, (y, self._weighed(self.weight))),)

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with A x computed once."""
        residual = self.operator(x) - y
        pull = self._weighed(residual)
        value = 0.5 * self.weight * (pull * residual).flatten(1).sum(1)
        return value, self.weight * self.operator.adjoint(pull)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """w Aᵀ m A."""
        return LinearMap.shared(
            lambda v: self.weight * self.operator.adjoint(self._weighed(self.operator(v)))
        )

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap:
        """The Hessian itself."""
        return self.hessian(x, y)

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        """For denoising, missing pixels and convolutions."""
        gram = self.operator.gram_stencil(x)
        if gram is None:
            return None
        if self.weights is None:
            return [gram.times(self.weight.detach())]
        datum = self.operator.data_shape((x.shape[1], x.shape[2], x.shape[3]))
        return [gram.times((self.weight.detach() * self.weights).expand(1, *datum))]

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """w times the bounds of AᵀA, times the least and the greatest m."""
        gram, weight = self.operator.gram_bounds(image_shape), self.exact_weight
        least, most = self._extent()
        return Bounds.of(weight * gram.lower * least, weight * gram.upper * most)

    def spectrum(self, image_shape: Shape) -> Tensor | None:
        """w times the spectrum of AᵀA; with weights of the data none is known."""
        gram = None if self.weights is not None else self.operator.gram_spectrum(image_shape)
        return None if gram is None else self.exact_weight * gram

    def accounted(self) -> frozenset[str]:
        """The weight, and what the operator has."""
        return accounted_under("operator", self.operator) | {"log_weight"}

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """The Hessian is constant; ∂∇Ψ/∂log w = ∇Ψ, and by θ of A as in :func:`turned`."""
        shape = x.shape[1], x.shape[2], x.shape[3]
        with torch.no_grad():
            residual = self.operator(x) - y
            most = self.weight.double() * self._extent()[1]
            total = turned(self.operator, most, x, residual, q, radius)
            if not self.log_weight.requires_grad:
                return total
            pull = rows.length(self.grad(x, y))
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
        """w m ‖A‖² ‖x‖ + w ‖A‖ ‖m y‖, times what A adds to the rounding of a few operations."""
        square = self.operator.gram_bounds(image_shape).upper
        weight, size = (
            self.exact_weight * self.operator.roundings / 2,
            rows.length(self._weighed(y)),
        )
        slope = weight * square * self._extent()[1]
        return Magnitude(slope.expand(len(y)), weight * square**0.5 * size)


def _checked(weights: Tensor) -> Tensor:
    name = "weights of the data"
    weights = real_tensor(weights, name, (2, 3))
    if not bool((weights >= 0).all()) or not bool(weights.any()):
        given = f"from {float(weights.min()):.3g} to {float(weights.max()):.3g}"
        raise InputError(f"{name} must not be negative, nor all 0", given=given)
    return weights


def _pull(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return weight * (x - y)
