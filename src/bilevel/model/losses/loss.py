"""What an upper-level loss is: the distance of a reconstruction to the truth."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

__all__ = ["Loss", "Scale"]


class Scale:
    """What the values of a loss or a criterion mean."""

    unit: ClassVar[str] = ""
    """Of its values, for axes and tables."""

    def scale(self, value: float) -> float:
        """The change that counts as large at a mean of ``value``: its size, unless it has one.

        A gradient is small if it is a small part of this.
        """
        return abs(value)

    def psnr(self, value: float) -> float:
        """PSNR [dB] that a mean of ``value`` stands for; nan if it stands for none.

        Of the loss's peak, where it has one, otherwise for a peak of 1.
        """
        del value
        return math.nan


class Loss(Scale, ABC):
    """ℓ(x, target), one value a row, with a Lipschitz gradient."""

    @abstractmethod
    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """ℓ(x, target): (b, c, h, w), (b, c, h, w) -> (b,)."""

    @abstractmethod
    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """∇_x ℓ(x, target)."""

    @abstractmethod
    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """Proved Lipschitz constants of ∇_x ℓ within ``radius`` (b,) of ``x``, ℓ2: (b,) float64."""

    def rows(self, index: Tensor) -> Loss:
        """For the rows ``index`` of a batch; the same unless each row has a loss of its own."""
        del index
        return self

    def double(self) -> Loss:
        """In float64; the same unless it holds tensors."""
        return self

    def fitted(self, target: Tensor) -> Loss:
        """The same with what was left to the data taken from the targets (k, c, h, w); itself."""
        del target
        return self
