"""The identity: denoising."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.model.operators.operator import Interval, Operator, Shape
from bilevel.model.preconditioner import Stencil

__all__ = ["Identity"]


class Identity(Operator):
    """Data are the image itself: denoising.

    A x = x, for images of any shape (b, c, h, w).

    Example:
        >>> Identity()(torch.ones(1, 1, 1, 2))
        tensor([[[[1., 1.]]]])
    """

    pure = True
    faithful = True

    def sees_pixels(self) -> bool:
        """All of them."""
        return True

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c, h, w)."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, c, h, w) -> (b, c, h, w)."""
        return y

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """[1, 1]."""
        del image_shape
        return Interval(1.0, 1.0)

    def gram_spectrum(self, image_shape: Shape) -> Tensor | None:
        """Ones (h, w), float64."""
        return torch.ones(image_shape[1:], dtype=torch.float64)

    def gram_stencil(self, x: Tensor) -> Stencil:
        """The identity."""
        return Stencil.identity(x)
