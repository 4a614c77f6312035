"""What an upper-level loss is: the distance of a reconstruction to the truth."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["Loss"]


class Loss(ABC):
    """ℓ(x, target), one value a row, with a Lipschitz gradient."""

    @abstractmethod
    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """ℓ(x, target): (b, c, h, w), (b, c, h, w) -> (b,)."""

    @abstractmethod
    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """∇_x ℓ(x, target)."""

    @abstractmethod
    def lipschitz(self, x: Tensor) -> float:
        """A proved Lipschitz constant of ∇_x ℓ for images of that shape."""
