"""One operator after another."""

from __future__ import annotations

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = ["Composition"]


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
        self.outer = _operator(outer)
        self.inner = _operator(inner)

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c', h', w')."""
        return self.outer.forward(self.inner.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, c', h', w') -> (b, c, h, w)."""
        return self.inner.adjoint(self.outer.adjoint(y))

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Products of the two operators' bounds: proved, not sharp."""
        inner = self.inner.gram_bounds(image_shape)
        outer = self.outer.gram_bounds(self.inner.data_shape(image_shape))
        return Interval(
            outer.lower * inner.lower / (1 + 1e-12), outer.upper * inner.upper * (1 + 1e-12)
        )

    def image_shape(self, data_shape: Shape) -> Shape:
        """The shape of an image whose data have that shape."""
        return self.inner.image_shape(self.outer.image_shape(data_shape))

    def data_shape(self, image_shape: Shape) -> Shape:
        """The shape of the data; raises InputError if either operator does not fit."""
        return self.outer.data_shape(self.inner.data_shape(image_shape))

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {"outer": self.outer, "inner": self.inner}


def _operator(value: object) -> Operator:
    if not isinstance(value, Operator):
        advice = "apply an operator to a tensor with operator(x)"
        raise InputError("@ composes two operators", given=type(value).__name__, advice=advice)
    return value
