"""The squared distance to the data that exist, of which every sample may have others."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.fidelities.squared_l2 import SquaredL2
from bilevel.model.fidelities.weighted import WeightedFidelity
from bilevel.model.operators import Identity
from bilevel.model.operators.accompanied import Accompanied
from bilevel.model.operators.operator import Operator, Shape, check_operator
from bilevel.model.preconditioner import Stencil

__all__ = ["ObservedL2"]


class ObservedL2(WeightedFidelity):
    """weight/2 Σ m² (A x - y)²: samples whose data exist at places of their own.

    Data (b, 2c', h', w') hold y, then m (1 where a datum exists, 0 where not): dead pixels, or
    k-space, that differ from sample to sample. Where all samples share one mask, ``SquaredL2`` of
    ``Mask(m) @ A`` is the same and known to all rules and criteria.

    Args:
        operator: A, the identity if None.
        weight: factor w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a weight that is not positive, an unknown name in ``learn``; later data without
            as many channels of m.

    Example:
        >>> y, seen = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
        >>> ObservedL2()(torch.ones(1, 1, 1, 2), torch.cat([y, seen], 1)).item()
        0.5
    """

    def __init__(
        self, operator: Operator | None = None, weight: float = 1.0, *, learn: Collection[str] = ()
    ) -> None:
        """Forward operator and weight."""
        own = Identity() if operator is None else check_operator(operator)
        super().__init__(Accompanied(own), weight, learn=learn)

    @property
    def _own(self) -> Operator:
        """A."""
        own = self.operator
        return own.operator if isinstance(own, Accompanied) else own

    def options(self) -> dict[str, object]:
        """What builds it again; the weight itself travels as a parameter."""
        return {**super().options(), "operator": self._own}

    @staticmethod
    def like(fidelity: SquaredL2) -> ObservedL2:
        """The same for data that have m beside them."""
        learn = ("weight",) if fidelity.log_weight.requires_grad else ()
        found = ObservedL2(fidelity.operator, learn=learn)
        found.log_weight.data = fidelity.log_weight.detach().clone()
        return found

    def shared(self, operator: Operator) -> SquaredL2:
        """With the same weight, for data of ``operator`` without m."""
        learn = ("weight",) if self.log_weight.requires_grad else ()
        found = SquaredL2(operator, learn=learn)
        found.log_weight.data = self.log_weight.detach().clone()
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """w/2 Σ m² (A x - y)², (b,)."""
        return self._value(self._residual(x, y))

    def _residual(self, x: Tensor, y: Tensor) -> Tensor:
        data, m = y.chunk(2, 1)
        return m * (self._own(x) - data)

    def _value(self, residual: Tensor) -> Tensor:
        return 0.5 * self.weight * residual.square().flatten(1).sum(1)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """W Aᵀ m² (A x - y)."""
        return self.weight * self._own.adjoint(y.chunk(2, 1)[1] * self._residual(x, y))

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with A x computed once."""
        residual = self._residual(x, y)
        slope = self.weight * self._own.adjoint(y.chunk(2, 1)[1] * residual)
        return self._value(residual), slope

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """W Aᵀ m² A."""
        del x
        return self._weighted(y.chunk(2, 1)[1].square())

    def _weighted(self, squares: Tensor) -> LinearMap:
        own = self._own
        return LinearMap(
            lambda v: self.weight * own.adjoint(squares * own(v)),
            lambda index: self._weighted(squares[index]),
        )

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap:
        """The Hessian itself."""
        return self.hessian(x, y)

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        """Those of AᵀA with m² at every datum."""
        gram = self._own.gram_stencil(x)
        squares = y.chunk(2, 1)[1].square()
        return None if gram is None else [gram.times((self.weight * squares).detach())]

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """W times the extremes of m² times the bounds of AᵀA, row by row."""
        gram, weight = self._own.gram_bounds(image_shape), self.exact_weight
        squares = y.chunk(2, 1)[1].detach().double().square().flatten(1)
        lower, upper = gram.lower * squares.amin(1), gram.upper * squares.amax(1)
        return Bounds.of(weight * lower, weight * upper)

    def accounted(self) -> frozenset[str]:
        """The weight; nothing is known of what the operator may have."""
        return frozenset({"log_weight"})

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """The Hessian is constant; ∂∇Ψ/∂log w = ∇Ψ."""
        shape = x.shape[1], x.shape[2], x.shape[3]
        with torch.no_grad():
            nothing = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            if not self.log_weight.requires_grad:
                return Variation(nothing, nothing, nothing)
            turn, pull = rows.length(self.hessian(x, y)(q)), rows.length(self.grad(x, y))
            upper = self.bounds(shape, y).lipschitz
            return Variation(nothing, turn * radius, pull + upper * radius)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """Quadratic."""
        return Smoothness.quadratic(x)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """W m² ‖A‖² ‖x‖ + W ‖A‖ ‖m² y‖, times what A and m add to the rounding."""
        data, m = y.chunk(2, 1)
        square = self._own.gram_bounds(image_shape).upper
        weight = self.exact_weight * (self._own.roundings + 2) / 2
        most = m.detach().double().square().flatten(1).amax(1)
        size = rows.length(m.square() * data)
        return Magnitude(weight * square * most, weight * square**0.5 * size)
