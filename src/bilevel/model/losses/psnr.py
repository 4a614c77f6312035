"""Minus the PSNR: the mean over images then weighs easy and hard ones alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.contrast import peak_of
from bilevel.model.losses.loss import Loss

__all__ = ["PSNR"]

_DECIBEL = 10 / math.log(10)
_FLOOR = 1e-8  # MSE over peak² at which PSNR ends, 80 dB: keeps the gradient Lipschitz


@dataclass(frozen=True)
class PSNR(Loss):
    """Minus the PSNR, so that easy images count as much as hard ones.

    ℓ(x, target) = 10 log10(mean((x - target)²)/peak² + 1e-8) [dB], minus the PSNR.

    The mean of :class:`SquaredError` is ruled by the images with the largest error; where the mean
    PSNR is what is reported, this is the loss that it is the mean of.

    Args:
        peak: the grey value that stands for white; that of the targets of a problem if None
            (:func:`~bilevel.ground.contrast.peak_of`, 1 for targets in [0, 1]), and 1 without one.

    Raises:
        InputError: a peak that is not positive.

    Example:
        >>> import torch
        >>> PSNR().value(torch.full((1, 1, 2, 2), 0.1), torch.zeros(1, 1, 2, 2))
        tensor([-20.0000])
    """

    unit = "dB"
    peak: float | None = None

    def __post_init__(self) -> None:
        """Check the peak."""
        if self.peak is not None:
            check_positive(self.peak, "the peak")

    def fitted(self, target: Tensor) -> PSNR:
        """With the peak of the targets, unless it was given."""
        return self if self.peak is not None else replace(self, peak=peak_of(target))

    @property
    def _square(self) -> float:
        return (self.peak or 1.0) ** 2

    @property
    def _floor(self) -> float:
        return _FLOOR * self._square

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """Of each row, at most 80 dB of PSNR."""
        return 10 * ((x - target).square().flatten(1).mean(1) / self._square + _FLOOR).log10()

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """20/ln 10 · r/(‖r‖² + n peak² 1e-8) with r = x - target."""
        r = x - target
        return r * rows.expand(2 * _DECIBEL / (rows.inner(r, r) + self._floor * x[0].numel()), r)

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """20/ln 10 / (s² + n peak² 1e-8), s the least ‖r‖ in the ball: a bound of the Hessian."""
        least = (rows.length(x - target) - radius.double()).clamp_min(0.0)
        return 2 * _DECIBEL / (least.square() + self._floor * x[0].numel())

    def scale(self, value: float) -> float:
        """10/ln 10 dB, a factor of e in the squared error."""
        del value
        return _DECIBEL

    def psnr(self, value: float) -> float:
        """The mean PSNR."""
        return -value
