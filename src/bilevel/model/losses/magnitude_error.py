"""The squared error of magnitudes: the phase of complex images is not judged."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.contrast import contrast
from bilevel.ground.errors import InputError
from bilevel.model.losses.loss import Loss
from bilevel.model.operators.operator import Shape

__all__ = ["MagnitudeError"]

SMOOTHING = 0.01
"""Of the contrast of the targets, where none is given."""


@dataclass(frozen=True)
class MagnitudeError(Loss):
    """The mean squared error of magnitudes, for complex images whose phase does not matter.

    ℓ(x, target) = mean (|x|_δ - |target|_δ)² [grey value²], |z|_δ = √(re z² + im z² + δ²); complex
    images are pairs of channels, real and imaginary part. Not convex: with the phase turned, |x|
    is the same.

    Args:
        smoothing: δ [grey value], which keeps the gradient Lipschitz where x is near 0; 0.01 of the
            contrast of the targets if None, and 0.01 without any.

    Raises:
        InputError: a smoothing that is not positive, or images with an odd number of channels.

    Example:
        >>> import torch
        >>> one, i = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 1.0])
        >>> MagnitudeError().value(one, i.view(1, 2, 1, 1))
        tensor([0.])
    """

    unit = "grey value²"
    smoothing: float | None = None

    def __post_init__(self) -> None:
        """Check the smoothing."""
        if self.smoothing is not None:
            check_positive(self.smoothing, "the smoothing")

    def fitted(self, target: Tensor) -> MagnitudeError:
        """With a smoothing in the unit of the targets, unless it was given."""
        given = self.smoothing is not None
        return self if given else replace(self, smoothing=SMOOTHING * contrast(target))

    def check(self, image_shape: Shape, target_shape: Shape) -> None:
        """Pairs of channels."""
        super().check(image_shape, target_shape)
        if image_shape[0] % 2:
            advice = "give complex images as two channels, real and imaginary part"
            raise InputError(
                "magnitudes need an even number of channels", given=image_shape[0], advice=advice
            )

    @property
    def _smoothing(self) -> float:
        return SMOOTHING if self.smoothing is None else self.smoothing

    def _magnitude(self, z: Tensor) -> Tensor:
        """|z|_δ of every pair of channels: (b, c, h, w) -> (b, c/2, 1, h, w)."""
        square = _pairs(z).square().sum(2, keepdim=True)
        return (square + self._smoothing**2).sqrt()

    def _off(self, x: Tensor, target: Tensor) -> Tensor:
        """|x|_δ - |target|_δ as a difference of squares, which loses nothing where δ is larger."""
        squares = _pairs((x - target) * (x + target)).sum(2, keepdim=True)
        return squares / (self._magnitude(x) + self._magnitude(target))

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """Mean over the complex pixels of each row."""
        return self._off(x, target).square().flatten(1).mean(1)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """2 (1 - |target|_δ/|x|_δ) x/n."""
        share = self._off(x, target) / self._magnitude(x)
        return (share * _pairs(x)).flatten(1, 2) * (4 / x[0].numel())

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """2/n max(1, a/m - 1) over all pixels, a = |target|_δ and m the least |x|_δ in the ball.

        ∇² of (|z|_δ - a)² has the eigenvalues 2 (1 - a/|z|_δ) and 2 (1 - a δ²/|z|_δ³), both in
        [2 (1 - a/m), 2] as δ <= |z|_δ.
        """
        size = self._magnitude(x.double()).square() - self._smoothing**2
        reach = radius.double().view(-1, 1, 1, 1, 1)
        near = (size.clamp_min(0.0).sqrt() - reach).clamp_min(0.0)
        least = (near.square() + self._smoothing**2).sqrt()
        steep = self._magnitude(target.double()) / least - 1
        return steep.flatten(1).amax(1).clamp_min(1.0) * (4 / x[0].numel())


def _pairs(z: Tensor) -> Tensor:
    """(b, c, h, w) -> (b, c/2, 2, h, w): real and imaginary parts."""
    b, c, h, w = z.shape
    return z.reshape(b, c // 2, 2, h, w)
