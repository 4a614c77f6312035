"""A loss by some channels of the targets, for targets that hold images and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.losses.loss import Loss, check_loss
from bilevel.model.operators.operator import Shape

__all__ = ["TargetChannels"]


@dataclass(frozen=True)
class TargetChannels(Loss):
    """A loss by some channels of the targets, for targets that hold images and labels.

    ℓ(x, target[:, first:first + count]). Pictures and tasks can then be weighed against each other,
    ``TargetChannels(SquaredError(), 0, 1) + 0.1 * TargetChannels(SegmentationLoss(net), 1, 1)``.

    Args:
        loss: what judges.
        first: number of the first channel.
        count: how many.

    Raises:
        InputError: no channel, or targets that have fewer.

    Example:
        >>> import torch
        >>> from bilevel.model.losses import SquaredError
        >>> target = torch.tensor([0.0, 3.0]).view(1, 2, 1, 1)
        >>> TargetChannels(SquaredError(), 1, 1).value(torch.ones(1, 1, 1, 1), target)
        tensor([4.])
    """

    loss: Loss
    first: int
    count: int

    def __post_init__(self) -> None:
        """Check the channels; the unit is that of the loss."""
        check_loss(self.loss)
        if self.first < 0 or self.count < 1:
            given = f"first = {self.first}, count = {self.count}"
            raise InputError("a loss needs at least one channel of the targets", given=given)
        object.__setattr__(self, "unit", self.loss.unit)

    def _part(self, target: Tensor) -> Tensor:
        return target[:, self.first : self.first + self.count]

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """By those channels, (b,)."""
        return self.loss.value(x, self._part(target))

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """By those channels."""
        return self.loss.grad(x, self._part(target))

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """As the loss proves it."""
        return self.loss.lipschitz(x, self._part(target), radius)

    def check(self, image_shape: Shape, target_shape: Shape) -> None:
        """The channels must be there, and fit."""
        if target_shape[0] < self.first + self.count:
            what = f"targets must have at least {self.first + self.count} channels"
            raise InputError(what, given=target_shape[0])
        self.loss.check(image_shape, (self.count, *target_shape[1:]))

    def trial(self, x: Tensor, target: Tensor) -> None:
        """As the loss."""
        self.loss.trial(x, self._part(target))

    def images(self, target: Tensor) -> Tensor | None:
        """What of those channels are images."""
        return self.loss.images(self._part(target))

    def rows(self, index: Tensor) -> TargetChannels:
        """Of the rows ``index``."""
        return replace(self, loss=self.loss.rows(index))

    def double(self) -> TargetChannels:
        """In float64."""
        return replace(self, loss=self.loss.double())

    def fitted(self, target: Tensor) -> TargetChannels:
        """With what the loss takes from those channels."""
        return replace(self, loss=self.loss.fitted(self._part(target)))

    def scale(self, value: float) -> float:
        """That of the loss."""
        return self.loss.scale(value)

    def psnr(self, value: float) -> float:
        """That of the loss."""
        return self.loss.psnr(value)
