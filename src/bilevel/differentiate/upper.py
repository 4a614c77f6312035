"""The upper loss at fixed targets: the other half of what a hypergradient needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_matching
from bilevel.ground.errors import InputError
from bilevel.model.losses import Loss

__all__ = ["Upper"]


@dataclass(frozen=True)
class Upper:
    """x -> ℓ(x, target), row by row."""

    loss: Loss
    target: Tensor
    channels: int | None = None
    """Of the image, the first ones of a state x; as many as those of the target if None."""

    def check(self, image: Tensor) -> None:
        """Raise InputError unless the targets fit the images that were reconstructed."""
        check_matching(self.target, "target", image, "x")
        if len(self.target) != len(image):
            what = f"there must be a target for each of {len(image)} reconstructions"
            raise InputError(what, given=len(self.target))
        (_, c, h, w), (_, channels, height, width) = image.shape, self.target.shape
        self.loss.check((c, h, w), (channels, height, width))

    def _image(self, x: Tensor) -> Tensor:
        """The channels of the state x that are the image: its first ones."""
        channels = self.target.shape[1] if self.channels is None else self.channels
        return x if x.shape[1] == channels else x[:, :channels]

    def double(self) -> Upper:
        """The same in float64, so that values carry no rounding of float32."""
        return Upper(self.loss.double(), self.target.double(), self.channels)

    def rows(self, index: Tensor) -> Upper:
        """The loss of the rows ``index`` alone."""
        return Upper(self.loss.rows(index), self.target[index], self.channels)

    def value(self, x: Tensor) -> Tensor:
        """ℓ, (b,)."""
        return self.loss.value(self._image(x), self.target)

    def grad(self, x: Tensor) -> Tensor:
        """∇_x ℓ, zero in further channels."""
        found = self.loss.grad(self._image(x), self.target)
        further = x.shape[1] - found.shape[1]
        return torch.cat([found, torch.zeros_like(x[:, -further:])], 1) if further else found

    def lipschitz(self, x: Tensor, radius: Tensor) -> Tensor:
        """Proved Lipschitz constants of ∇_x ℓ within ``radius`` (ℓ2) of ``x``, (b,); or inf."""
        return self.loss.lipschitz(self._image(x), self.target, radius)

    def drift(self, x: Tensor, radius: Tensor) -> Tensor:
        """By how much ∇ℓ may change within ``radius``, (b,): 0 at x itself, whatever is known."""
        return torch.where(radius > 0, self.lipschitz(x, radius) * radius, 0.0)

    def steepness(self, x: Tensor, distance: Tensor) -> Tensor:
        """The change of ∇ℓ over ``distance`` along itself, divided by that, (b,).

        Estimates from below, in the place of Lipschitz constants that are not known.
        """
        slope = self.grad(x)
        size = rows.length(slope).clamp_min(1e-300)
        along = rows.expand((distance / size).to(x), x) * slope
        return rows.length(self.grad(x - along) - slope) / distance
