"""Terms that see some channels of a state: the image, or the image and channels of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
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
        return replace(function, operator=function.operator @ chosen)
    if function.distance is not None and not function.boxed:
        return on_channels(as_norm(function.distance), index, count)
    if function.distance is None and index == tuple(range(len(index))):
        return replace(function, channels=len(index))
    what = "in a state with further channels than the image, a box must be one of the image alone"
    raise InputError(what, advice="give the box and the distance as two terms")


@dataclass(frozen=True)
class _SmoothOnChannels(Smooth):
    """x -> T(x[:, index]): what is diagonal in the Fourier basis there is not so here."""

    inner: Smooth
    chosen: Channels

    def value(self, x: Tensor) -> Tensor:
        return self.inner.value(self.chosen(x))

    def grad(self, x: Tensor) -> Tensor:
        return self.chosen.adjoint(self.inner.grad(self.chosen(x)))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = self.inner.value_and_grad(self.chosen(x))
        return value, self.chosen.adjoint(slope)

    def hessian(self, x: Tensor) -> LinearMap:
        return self._widened(self.inner.hessian(self.chosen(x)))

    def majoriser(self, x: Tensor) -> LinearMap | None:
        found = self.inner.majoriser(self.chosen(x))
        return None if found is None else self._widened(found)

    def _widened(self, inner: LinearMap) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            return self.chosen.adjoint(inner(self.chosen(v)))

        return LinearMap(apply, lambda index: self._widened(inner.rows(index)))

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        found = self.inner.stencils(self.chosen(x))
        return None if found is None else [self._placed(part) for part in found]

    def _placed(self, part: Stencil) -> Stencil:
        return replace(part, filters=self.chosen.adjoint(part.filters))

    def bounds(self, shape: Shape) -> Bounds:
        """Zero in the channels that it does not see."""
        own = self.inner.bounds(self.chosen.data_shape(shape))
        return replace(own, mu=own.mu.clamp_max(0.0), lipschitz=own.lipschitz.clamp_min(0.0))

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        return self.inner.variation(self.chosen(x), self.chosen(q), radius)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        return self.inner.smoothness(self.chosen(x), radius)

    def magnitude(self, shape: Shape) -> Magnitude:
        return self.inner.magnitude(self.chosen.data_shape(shape))

    def rows(self, index: Tensor) -> Smooth:
        return replace(self, inner=self.inner.rows(index))
