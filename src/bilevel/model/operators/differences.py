"""Forward differences: the gradient of an image."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from bilevel.ground.errors import InputError
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = ["Differences"]


class Differences(Operator):
    """Differences of neighbouring pixels.

    D x: differences to the next row, then to the next column; zero across the last ones.

    (b, c, h, w) -> (b, 2 c, h, w), the c channels of row differences first. Its adjoint is minus
    the divergence of Chambolle 2004.

    Example:
        >>> Differences()(torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])).flatten().tolist()
        [3.0, 6.0, 0.0, 0.0, 1.0, 0.0, 4.0, 0.0]
    """

    pure = True
    faithful = True

    def forward(self, x: Tensor) -> Tensor:
        """D x: (b, c, h, w) -> (b, 2 c, h, w)."""
        if torch.compiler.is_compiling():
            down = pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
            right = pad(x[..., 1:] - x[..., :-1], (0, 1))
            return torch.cat([down, right], 1)
        c = x.shape[1]
        d = x.new_zeros(x.shape[0], 2 * c, *x.shape[2:])
        d[:, :c, :-1] = x[..., 1:, :] - x[..., :-1, :]
        d[:, c:, :, :-1] = x[..., 1:] - x[..., :-1]
        return d

    def adjoint(self, y: Tensor) -> Tensor:
        """Dᵀ y: (b, 2 c, h, w) -> (b, c, h, w)."""
        down, right = y.chunk(2, dim=1)
        if torch.compiler.is_compiling():
            down, right = pad(down[..., :-1, :], (0, 0, 1, 1)), pad(right[..., :-1], (1, 1))
            return down[..., :-1, :] - down[..., 1:, :] + right[..., :-1] - right[..., 1:]
        x = torch.zeros_like(down)
        x[..., 1:, :] += down[..., :-1, :]
        x[..., :-1, :] -= down[..., :-1, :]
        x[..., 1:] += right[..., :-1]
        x[..., :-1] -= right[..., :-1]
        return x

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """[0, 4 sin²(π(h-1)/2h) + 4 sin²(π(w-1)/2w)], exact: the cosine transform diagonalises."""
        axis = [4 * math.sin(math.pi * (n - 1) / (2 * n)) ** 2 for n in image_shape[1:]]
        return Interval(0.0, sum(axis) * (1 + 1e-12))

    def image_shape(self, data_shape: Shape) -> Shape:
        """Half the channels."""
        if data_shape[0] % 2:
            raise InputError("differences have an even number of channels", given=data_shape)
        return data_shape[0] // 2, data_shape[1], data_shape[2]

    def data_shape(self, image_shape: Shape) -> Shape:
        """Twice the channels."""
        return 2 * image_shape[0], image_shape[1], image_shape[2]
