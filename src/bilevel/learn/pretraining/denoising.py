"""What surrogates share that compare a gradient step from a noisy image with the clean one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground.checks import check_nonnegative, check_positive
from bilevel.ground.contrast import peak_of
from bilevel.learn.pretraining.surrogate import Draw, Surrogate
from bilevel.model.losses import SquaredError
from bilevel.model.smooth import Smooth

__all__ = ["Denoising", "peak_among"]

NOISE = 0.03
"""Standard deviation of the noise, for a peak of 1."""


@dataclass(frozen=True, kw_only=True)
class Denoising(Surrogate):
    """A loss of y - ∇R(y) - x, y = x + σ n.

    Args:
        noise: σ [grey value]; 0.03 of the peak of the targets if None.
        border: pixels at each border that do not count, where filters see the padding.
        peak: that of the PSNR that is told of [grey value]; that of the targets if None.
    """

    noise: float | None = None
    border: int = 0
    peak: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_nonnegative(self.border, "border")
        for name in ("noise", "peak"):
            value = getattr(self, name)
            if value is not None:
                check_positive(value, name)

    @property
    def smallest(self) -> int:
        """Something is left inside the border."""
        return 2 * self.border + 1

    @property
    def level(self) -> float:
        """σ."""
        return NOISE * (self.peak or 1.0) if self.noise is None else self.noise

    def fitted(self, targets: Sequence[Tensor]) -> Denoising:
        """With peak and noise of the targets, unless they were given."""
        known = self if self.peak is not None else replace(self, peak=peak_among(targets))
        return replace(known, noise=known.level)

    def scale(self) -> SquaredError:
        """Squared grey values, which PSNR is told of."""
        return SquaredError(self.peak)

    def error(self, prior: Smooth, draw: Draw) -> Tensor:
        """Mean square of y - ∇R(y) - x inside the border, (b,)."""
        shift, b = self.level * draw.normal, self.border
        left = shift - prior.grad(draw.clean + shift)
        inside = left[..., b : left.shape[-2] - b, b : left.shape[-1] - b]
        return inside.square().flatten(1).mean(1)


def peak_among(targets: Sequence[Tensor]) -> float:
    """That of all images together."""
    return peak_of(torch.stack([part for t in targets for part in (t.min(), t.max())]))
