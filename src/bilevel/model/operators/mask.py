"""Pixelwise multiplication: inpainting, missing or weighted pixels."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.operators.inputs import check_adjoint, check_forward, mask_weights
from bilevel.model.operators.operator import Interval, Operator, Shape
from bilevel.model.preconditioner import Stencil

__all__ = ["Mask"]


class Mask(Operator):
    """Some pixels are seen: inpainting.

    A x = m x: data have the shape of the image and are zero where nothing is seen.

    Args:
        mask: booleans or weights [1], (h, w) for all channels or (c, h, w).

    Raises:
        InputError: a mask that is complex, not finite, empty or zero everywhere.

    Example:
        >>> import torch
        >>> operator = Mask(torch.tensor([[True, False]]))
        >>> operator(torch.ones(1, 1, 1, 2))
        tensor([[[[1., 0.]]]])
    """

    faithful = True
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask_weights(mask, (2, 3)))

    def sees_pixels(self) -> bool:
        """Where all weights are 0 or 1."""
        return bool(((self.mask == 0) | (self.mask == 1)).all())

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c, h, w)."""
        check_forward(self, x, self.mask)
        return self.mask * x

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, c, h, w) -> (b, c, h, w)."""
        check_adjoint(self, y, self.mask)
        return self.mask * y

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """[min m², max m²], exact."""
        self.data_shape(image_shape)
        squares = self.mask.cpu().double().square()
        return Interval(float(squares.min()) / (1 + 1e-12), float(squares.max()) * (1 + 1e-12))

    def gram_stencil(self, x: Tensor) -> Stencil:
        """Multiplication by m²."""
        squares = self.mask.to(x).square().expand_as(x[0])[None]
        return replace(Stencil.identity(x), weights=squares)

    def data_shape(self, image_shape: Shape) -> Shape:
        """The shape of the image; raises InputError unless the mask has its size and channels."""
        shape = tuple(self.mask.shape)
        if image_shape[-self.mask.ndim :] != shape:
            raise InputError(f"a mask of shape {shape} does not fit the image", given=image_shape)
        return image_shape

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {"mask": self.mask}
