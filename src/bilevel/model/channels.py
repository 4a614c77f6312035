"""Terms that see some channels of a state: the image, or the image and channels of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.composed import ComposedSmooth, composed
from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators.operator import Interval, Operator, Shape
from bilevel.model.preconditioner import Stencil
from bilevel.model.smooth import Smooth
from bilevel.model.split import as_norm
from bilevel.model.term import Function

__all__ = ["Channels", "on_channels"]


class Channels(Operator):
    """The channels ``index`` of a state of ``count`` channels.

    Example:
        >>> Channels((0, 2), 3)(torch.arange(3.0).view(1, 3, 1, 1)).flatten()
        tensor([0., 2.])
    """

    def __init__(self, index: tuple[int, ...], count: int) -> None:
        super().__init__()
        self.index, self.count = list(index), count

    @property
    def roundings(self) -> float:
        """None: entries are chosen as they are."""
        return 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(b, count, h, w) -> (b, c, h, w)."""
        return x[:, self.index]

    def adjoint(self, y: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, count, h, w), zero elsewhere."""
        wide = y.new_zeros(len(y), self.count, *y.shape[2:])
        return wide.index_copy(1, torch.tensor(self.index, device=y.device), y)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """[0, 1], or [1, 1] where no channel is left out."""
        del image_shape
        return Interval(float(len(self.index) == self.count), 1.0)

    def image_shape(self, data_shape: Shape) -> Shape:
        """With all channels."""
        return self.count, *data_shape[1:]

    def data_shape(self, image_shape: Shape) -> Shape:
        """With the channels chosen."""
        return len(self.index), *image_shape[1:]

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {"index": self.index, "count": self.count}


def on_channels(function: Function, index: tuple[int, ...], count: int) -> Function:
    """``function`` of the channels ``index`` of a state of ``count`` channels.

    Raises:
        InputError: a box that is not one of the first channels, or one with a distance besides.
    """
    if len(index) == count:
        return function
    chosen = Channels(index, count)
    if isinstance(function, Smooth):
        return _SmoothOnChannels(function, chosen)
    if isinstance(function, GroupNorm):
        return composed(function, chosen)
    if function.distance is not None and not function.boxed:
        return on_channels(as_norm(function.distance), index, count)
    if function.distance is None and index == tuple(range(len(index))):
        return replace(function, channels=len(index))
    what = "in a state with further channels than the image, a box must be one of the image alone"
    raise InputError(what, advice="give the box and the distance as two terms")


@dataclass(frozen=True)
class _SmoothOnChannels(ComposedSmooth):
    """x -> T(x[:, index]); stencils of what is chosen are stencils of the whole."""

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """Zero in the channels that it does not see."""
        found = self.inner.stencils(self.operator(x))
        return None if found is None else [self._placed(part) for part in found]

    def _placed(self, part: Stencil) -> Stencil:
        return replace(part, filters=self.operator.adjoint(part.filters))
