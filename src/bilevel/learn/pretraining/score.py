"""Score matching: a gradient step that denoises."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bilevel.learn.pretraining.denoising import Denoising
from bilevel.learn.pretraining.surrogate import Draw
from bilevel.model.smooth import Smooth

__all__ = ["ScoreMatching"]


@dataclass(frozen=True, kw_only=True)
class ScoreMatching(Denoising):
    """One-step denoising: the regulariser whose gradient is the noise.

    mean((y - ∇R(y) - x)²) [grey value²] with y = x + σ n: a step from y down ½‖x - y‖² + R(x), so
    that ∇R becomes -σ² times the score of noisy images. What the reconstruction needs beside
    (weight, scale, sharpness) is to be fitted afterwards.

    Args:
        noise: σ [grey value]; 0.03 of the peak of the targets if None.
        border: pixels at each border that do not count, where filters see the padding.
        peak: that of the PSNR that is told of [grey value]; that of the targets if None.
        batch_size: crops a step.
        size: side of the crops [pixel]; smaller images are taken whole.
        augment: turn and mirror the crops at random.
        rate: how far Adam moves an entry of θ in a step, at the start.
        decay: share of the rate that is left when the budget is used up, in (0, 1].
        momentum: how much of the mean of directions a step keeps, in [0, 1).
        memory: how much of the mean of their squares a step keeps, in [0, 1).

    Source: Vincent 2011, "A connection between score matching and denoising autoencoders"; as a
    phase of training: Hertrich et al. 2025.

    Raises:
        InputError: options outside their ranges.

    Example:
        >>> ScoreMatching(noise=0.03).batch_size
        16
    """

    def losses(self, prior: Smooth, draw: Draw, progress: float) -> Tensor:
        """Mean over the pixels inside the border."""
        del progress
        return self.error(prior, draw)
