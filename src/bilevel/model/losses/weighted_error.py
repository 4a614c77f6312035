"""The squared error with a weight for every pixel, or of the pixels of a mask alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.losses.loss import Loss
from bilevel.model.operators.inputs import mask_weights
from bilevel.model.operators.operator import Shape

__all__ = ["WeightedError"]


@dataclass(frozen=True, eq=False)
class WeightedError(Loss):
    """The squared error with a weight for every pixel, or of the pixels of a mask alone.

    ℓ(x, target) = Σ_i w_i (x_i - target_i)²/Σ_i w_i [grey value²], the same for all images.

    With weights of 0 along the border, what the border of the data does to x is not judged; with a
    mask, a region of interest alone is.

    Args:
        weights: (h, w) for all channels, or (c, h, w); booleans for a mask.

    Raises:
        InputError: weights that are negative or not finite, or all 0; images of another size.

    Example:
        >>> seen = torch.tensor([[True, False]])
        >>> x = torch.tensor([2.0, 7.0]).view(1, 1, 1, 2)
        >>> WeightedError(seen).value(x, torch.zeros(1, 1, 1, 2))
        tensor([4.])
    """

    unit = "grey value²"
    weights: Tensor

    def __post_init__(self) -> None:
        """Check the weights, and keep a copy (1 or c, h, w), float64."""
        weights = mask_weights(self.weights, (2, 3), "weights").double()
        if bool((weights < 0).any()):
            given = f"{float(weights.min()):g}"
            raise InputError("the weights of pixels must not be negative", given=given)
        object.__setattr__(self, "weights", weights.view(-1, *weights.shape[-2:]))

    def check(self, image_shape: Shape, target_shape: Shape) -> None:
        """Images of the size of the weights."""
        super().check(image_shape, target_shape)
        own = tuple(self.weights.shape)
        if own[1:] != image_shape[1:] or own[0] not in (1, image_shape[0]):
            what = f"the loss has weights for images (c, h, w) = {own}"
            raise InputError(what, given=image_shape, advice="give weights of the size of images")

    def _shares(self, x: Tensor) -> Tensor:
        """w_i/Σ w, (1, 1 or c, h, w)."""
        copies = x.shape[1] // len(self.weights)
        return (self.weights / (copies * self.weights.sum())).to(x)[None]

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """Weighted mean over the pixels of each row."""
        return (self._shares(x) * (x - target).square()).flatten(1).sum(1)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """2 w (x - target)/Σ w."""
        return 2 * self._shares(x) * (x - target)

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """2 max w/Σ w, exactly and everywhere."""
        steep = 2 * float(self._shares(x.double()).max())
        return torch.full_like(radius, steep, dtype=torch.float64)
