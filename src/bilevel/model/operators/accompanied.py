"""Data with weights beside them: what a fidelity needs whose rows have weights of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.operators.operator import Interval, Operator, Shape, check_operator

__all__ = ["Accompanied"]


class Accompanied(Operator):
    """Data of another operator, and as many channels for what comes with them.

    B x = (A x, 0): data (b, 2c', h', w') hold those of A, then a weight for each.

    Args:
        operator: A.

    Raises:
        InputError: something that is no operator; later data of an odd number of channels.

    Example:
        >>> from bilevel.model.operators import Identity
        >>> Accompanied(Identity())(torch.ones(1, 1, 1, 2)).flatten()
        tensor([1., 1., 0., 0.])
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = check_operator(operator)

    def forward(self, x: Tensor) -> Tensor:
        """B x: (b, c, h, w) -> (b, 2c', h', w')."""
        y = self.operator(x)
        return torch.cat([y, torch.zeros_like(y)], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Bᵀ y = Aᵀ of the first half."""
        return self.operator.adjoint(y.chunk(2, 1)[0])

    @property
    def roundings(self) -> float:
        """Those of A."""
        return self.operator.roundings

    def sensitivity(self, image_shape: Shape) -> float:
        """That of A."""
        return self.operator.sensitivity(image_shape)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Those of A: BᵀB = AᵀA."""
        return self.operator.gram_bounds(image_shape)

    def gram_spectrum(self, image_shape: Shape) -> Tensor | None:
        """That of A."""
        return self.operator.gram_spectrum(image_shape)

    def start(self, y: Tensor) -> Tensor:
        """That of A."""
        return self.operator.start(y.chunk(2, 1)[0])

    def image_shape(self, data_shape: Shape) -> Shape:
        """That of A; raises InputError where nothing comes with the data."""
        channels, h, w = data_shape
        if channels % 2:
            what = "data need as many channels of weights beside them"
            raise InputError(what, given=f"{channels} channels in all")
        return self.operator.image_shape((channels // 2, h, w))

    def data_shape(self, image_shape: Shape) -> Shape:
        """Twice the channels of A."""
        channels, h, w = self.operator.data_shape(image_shape)
        return (2 * channels, h, w)

    def window(self, image_shape: Shape) -> tuple[slice, slice]:
        """That of A."""
        return self.operator.window(image_shape)

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {"operator": self.operator}
