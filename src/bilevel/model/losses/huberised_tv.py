"""The Huberised total variation of the error: what the eye sees is edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.contrast import contrast
from bilevel.model.losses.loss import Loss
from bilevel.model.operators.differences import Differences
from bilevel.model.potentials import Huber

__all__ = ["HuberisedTV"]

SMOOTHING = 0.01
"""Of the contrast of the targets, where none is given."""
DIFFERENCES, HUBER = Differences(), Huber()


@dataclass(frozen=True)
class HuberisedTV(Loss):
    """The Huberised total variation of the error: edges count, a shift of all grey values does not.

    ℓ(x, target) = mean_i h_γ(|(D (x - target))_i|) [grey value] with D the forward differences and
    h_γ(t) = t²/(2 γ) for t <= γ, t - γ/2 beyond; the mean over pixels, so that sizes compare.

    An image that differs from the target by a constant is perfect for it: ``HuberisedTV() +
    SquaredError()`` sees that too.
    Source: De los Reyes, Schönlieb, Valkonen 2017, "Bilevel parameter learning for higher-order
    total variation regularisation models", the cost of Huberised TV, there an integral.

    Args:
        smoothing: γ [grey value]; 0.01 of the contrast of the targets if None, and 0.01 without
            any.

    Raises:
        InputError: a smoothing that is not positive.

    Example:
        >>> ramp = torch.arange(4.0).expand(1, 1, 4, 4)
        >>> HuberisedTV(1.0).value(ramp, torch.zeros(1, 1, 4, 4))
        tensor([0.3750])
    """

    unit = "grey value"
    smoothing: float | None = None

    def __post_init__(self) -> None:
        """Check the smoothing."""
        if self.smoothing is not None:
            check_positive(self.smoothing, "the smoothing")

    def fitted(self, target: Tensor) -> HuberisedTV:
        """With a smoothing in the unit of the targets, unless it was given."""
        given = self.smoothing is not None
        return self if given else replace(self, smoothing=SMOOTHING * contrast(target))

    @property
    def _smoothing(self) -> float:
        return SMOOTHING if self.smoothing is None else self.smoothing

    def _slopes(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """D (x - target)/γ, (b, 2, c, h, w), and its squared length at every pixel."""
        slopes = DIFFERENCES(x - target) / self._smoothing
        slopes = slopes.view(len(x), 2, *x.shape[1:])
        return slopes, slopes.square().sum(1)

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """Mean over the pixels of each row."""
        _, square = self._slopes(x, target)
        return self._smoothing * HUBER.value_of_square(square).flatten(1).mean(1)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """Dᵀ(h_γ'(|D e|) D e/|D e|)/n."""
        slopes, square = self._slopes(x, target)
        force = HUBER.ratio_of_square(square).unsqueeze(1) * slopes
        return DIFFERENCES.adjoint(force.flatten(1, 2)) / x[0].numel()

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """‖D‖²/(γ n), the curvature at the target, and nowhere more."""
        c, h, w = x.shape[1:]
        steep = DIFFERENCES.gram_bounds((c, h, w)).upper / (self._smoothing * x[0].numel())
        return torch.full_like(radius, steep, dtype=torch.float64)
