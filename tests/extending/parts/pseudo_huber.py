"""A fidelity of one's own."""

from collections.abc import Collection

import torch
from torch import Tensor

from bilevel.extend import (
    Bounds,
    LinearMap,
    Magnitude,
    Operator,
    Shape,
    Smoothness,
    Stencil,
    Variation,
    WeightedFidelity,
    check_positive,
    rows,
)

THIRD = 48 / (25 * 5**0.5)  # |φ'''| <= THIRD/ν, at r = ν/2


class PseudoHuber(WeightedFidelity):
    """Squares of small residuals, absolute values of large ones: a few outliers.

    Ψ(A x; y) = w Σ φ(A x - y) with φ(r) = ν² (√(1 + r²/ν²) - 1).

    Args:
        operator: A, the identity if None.
        weight: factor w [1].
        turn: residual at which φ turns linear, ν [grey value].
        learn: names of what is learned.
    """

    def __init__(
        self,
        operator: Operator | None = None,
        weight: float = 1.0,
        turn: float = 0.1,
        *,
        learn: Collection[str] = (),
    ) -> None:
        super().__init__(operator, weight, learn=learn)
        self.turn = check_positive(turn, "turn")

    def options(self) -> dict[str, object]:
        return {**super().options(), "turn": self.turn}

    def _root(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        residual = self.operator(x) - y
        return residual, (1 + (residual / self.turn).square()).sqrt()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        residual, root = self._root(x, y)
        return self.weight * (residual.square() / (root + 1)).flatten(1).sum(1)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        residual, root = self._root(x, y)
        return self.weight * self.operator.adjoint(residual / root)

    def _curvature(self, x: Tensor, y: Tensor) -> Tensor:
        return self.weight * self._root(x, y)[1] ** -3

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        curvature = self._curvature(x, y)

        def apply(v: Tensor, index: Tensor) -> Tensor:
            return self.operator.adjoint(curvature[index] * self.operator(v))

        return LinearMap.per_row(apply, len(x))

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        gram = self.operator.gram_stencil(x)
        return None if gram is None else [gram.times(self._curvature(x, y).detach())]

    def _norm(self, image_shape: Shape) -> float:
        return self.operator.gram_bounds(image_shape).upper ** 0.5

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """0 <= φ'' <= 1."""
        return Bounds.of(0.0, self.weight.detach().double() * self._norm(image_shape) ** 2)

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        norm, weight = self._norm(_shape(x)), self.weight.detach().double()
        size = rows.norm(q).double()
        turn = weight * THIRD / self.turn * norm**3 * radius * size
        if not self.log_weight.requires_grad:
            return Variation(turn, torch.zeros_like(turn), torch.zeros_like(turn))
        pull = rows.norm(self.grad(x, y).detach()).double()
        change = weight * norm**2 * radius
        return Variation(turn, change * size, pull + change)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        third = self.weight.detach().double() * THIRD / self.turn * self._norm(_shape(x)) ** 3
        return Smoothness.of(torch.zeros_like(x), third)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        norm, weight = self._norm(image_shape), self.weight.detach().double()
        return Magnitude((weight * norm**2).expand(len(y)), weight * norm * rows.norm(y).double())


def _shape(x: Tensor) -> Shape:
    return x.shape[1], x.shape[2], x.shape[3]
