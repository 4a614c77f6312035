"""Means of blocks of pixels of an image of any size: the coarser scales of a regulariser."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from bilevel.ground.errors import InputError
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = ["BlockMeans"]


class BlockMeans(Operator):
    """Means of blocks of side x side pixels, of those that are there at the last row and column.

    Args:
        side: of the blocks [pixel].
        size: (h, w) of the images.

    Raises:
        InputError: images of another size.

    Example:
        >>> BlockMeans(2, (1, 3))(torch.tensor([[[[1.0, 3.0, 5.0]]]]))
        tensor([[[[2., 5.]]]])
    """

    def __init__(self, side: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.side, self.size = side, size

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c, ⌈h/side⌉, ⌈w/side⌉)."""
        return avg_pool2d(x, self.side, ceil_mode=True, count_include_pad=False)

    def adjoint(self, y: Tensor) -> Tensor:
        """Every block filled with its datum over the number of its pixels."""
        down, across = (torch.tensor(_lengths(n, self.side), device=y.device) for n in self.size)
        shares = y / down[:, None] / across
        tall = shares.repeat_interleave(down, 2, output_size=self.size[0])
        return tall.repeat_interleave(across, 3, output_size=self.size[1])

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Exact: A Aᵀ is diagonal, one over the number of pixels of each block."""
        c, *coarse = self.data_shape(image_shape)
        least = _lengths(self.size[0], self.side)[-1] * _lengths(self.size[1], self.side)[-1]
        alone = coarse == list(self.size) and c > 0
        upper = 1 / least
        return Interval(upper if alone else 0.0, upper)

    def image_shape(self, data_shape: Shape) -> Shape:
        """Of the size given at construction."""
        return data_shape[0], *self.size

    def data_shape(self, image_shape: Shape) -> Shape:
        """Rounded up; raises InputError for images of another size."""
        c, *size = image_shape
        if tuple(size) != self.size:
            raise InputError(f"these blocks are of images of {self.size} pixels", given=tuple(size))
        down, across = (-(-n // self.side) for n in self.size)
        return c, down, across

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        return {"side": self.side, "size": self.size}


def _lengths(n: int, side: int) -> list[int]:
    """Of the blocks along an axis, the last no longer than the others."""
    whole, rest = divmod(n, side)
    return [side] * whole + [rest] * (rest > 0)
