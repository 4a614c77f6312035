"""The upper loss at fixed targets: the other half of what a hypergradient needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_matching
from bilevel.ground.errors import InputError
from bilevel.model.losses import Loss

__all__ = ["Upper"]


@dataclass(frozen=True)
class Upper:
    """x -> ℓ(x, target), row by row."""

    loss: Loss
    target: Tensor

    def check(self, image: Tensor) -> None:
        """Raise InputError unless the targets fit the images that were reconstructed."""
        check_matching(self.target, "target", image, "x")
        if self.target.shape != image.shape:
            expected = f"targets must have the shape of the reconstructions, {tuple(image.shape)}"
            raise InputError(expected, given=tuple(self.target.shape))

    def _image(self, x: Tensor) -> Tensor:
        """The channels of the state x that a target speaks of: its first ones."""
        channels = self.target.shape[1]
        return x if x.shape[1] == channels else x[:, :channels]

    def double(self) -> Upper:
        """The same in float64, so that values carry no rounding of float32."""
        return Upper(self.loss.double(), self.target.double())

    def rows(self, index: Tensor) -> Upper:
        """The loss of the rows ``index`` alone."""
        return Upper(self.loss.rows(index), self.target[index])

    def value(self, x: Tensor) -> Tensor:
        """ℓ, (b,)."""
        return self.loss.value(self._image(x), self.target)

    def grad(self, x: Tensor) -> Tensor:
        """∇_x ℓ, zero in further channels."""
        found = self.loss.grad(self._image(x), self.target)
        further = x.shape[1] - found.shape[1]
        return torch.cat([found, torch.zeros_like(x[:, -further:])], 1) if further else found

    def lipschitz(self, x: Tensor, radius: Tensor) -> Tensor:
        """Proved Lipschitz constants of ∇_x ℓ within ``radius`` (ℓ2) of ``x``, (b,)."""
        return self.loss.lipschitz(self._image(x), self.target, radius)
