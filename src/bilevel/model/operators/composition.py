"""One operator after another."""

from __future__ import annotations

from torch import Tensor

from bilevel.model.operators.operator import Interval, Operator, Shape, check_operator
from bilevel.model.part import accounted_under

__all__ = ["Composition"]

APPLY = "apply an operator to a tensor with operator(x)"


class Composition(Operator):
    """One operator after another.

    A x = outer(inner(x)), also written ``outer @ inner``.

    Raises:
        InputError: something that is not an operator.

    Example:
        >>> import torch
        >>> from bilevel.model.operators import Identity, Mask
        >>> operator = Mask(torch.tensor([[1.0, 2.0]])) @ Identity()
        >>> operator(torch.ones(1, 1, 1, 2))
        tensor([[[[1., 2.]]]])
    """

    def __init__(self, outer: Operator, inner: Operator) -> None:
        super().__init__()
        self.outer = check_operator(outer, "what @ composes", APPLY)
        self.inner = check_operator(inner, "what @ composes", APPLY)

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c', h', w')."""
        return self.outer.forward(self.inner.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, c', h', w') -> (b, c, h, w)."""
        return self.inner.adjoint(self.outer.adjoint(y))

    @property
    def roundings(self) -> float:
        """Those of both."""
        return self.outer.roundings + self.inner.roundings

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Products of the two operators' bounds: proved, not sharp."""
        inner = self.inner.gram_bounds(image_shape)
        outer = self.outer.gram_bounds(self.inner.data_shape(image_shape))
        return Interval(
            outer.lower * inner.lower / (1 + 1e-12), outer.upper * inner.upper * (1 + 1e-12)
        )

    def sensitivity(self, image_shape: Shape) -> float:
        """By the product rule: s_outer ‖inner‖ + ‖outer‖ s_inner."""
        between = self.inner.data_shape(image_shape)
        outer, inner = self.outer.sensitivity(between), self.inner.sensitivity(image_shape)
        total = 0.0
        if outer > 0:
            total += outer * self.inner.gram_bounds(image_shape).upper ** 0.5
        if inner > 0:
            total += inner * self.outer.gram_bounds(between).upper ** 0.5
        return total * (1 + 1e-12)

    def image_shape(self, data_shape: Shape) -> Shape:
        """The shape of an image whose data have that shape."""
        return self.inner.image_shape(self.outer.image_shape(data_shape))

    def accounted(self) -> frozenset[str]:
        """What both have."""
        return accounted_under("outer", self.outer) | accounted_under("inner", self.inner)

    def window(self, image_shape: Shape) -> tuple[slice, slice]:
        """That of the operator applied first, or of the other where the first keeps the size."""
        own, between = self.inner.window(image_shape), self.inner.data_shape(image_shape)
        return self.outer.window(image_shape) if between == image_shape else own

    def data_shape(self, image_shape: Shape) -> Shape:
        """The shape of the data; raises InputError if either operator does not fit."""
        return self.outer.data_shape(self.inner.data_shape(image_shape))

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {"outer": self.outer, "inner": self.inner}
