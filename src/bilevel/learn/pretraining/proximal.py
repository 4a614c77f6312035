"""Proximal matching: a gradient step to the most likely image, not to the mean of all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.learn.pretraining.denoising import Denoising
from bilevel.learn.pretraining.surrogate import Draw
from bilevel.model.smooth import Smooth

__all__ = ["ProximalTraining"]


@dataclass(frozen=True, kw_only=True)
class ProximalTraining(Denoising):
    """Proximal matching: the gradient step as the proximal map of the images' own prior.

    mean γ² (1 - exp(-e/γ²)) [grey value²], e the mean square of y - ∇R(y) - x with y = x + σ n. As
    γ falls, only near misses count, so that the step aims at the most likely image and no more at
    the mean; it is then a proximal map, and R the Moreau envelope of what it is the map of. γ falls
    from ``first`` to ``last`` times σ with the budget; for large γ this is score matching.

    Args:
        first: γ/σ at the start [1].
        last: γ/σ at the end [1].
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

    Source: Fang, Buchanan, Sulam 2024, "What's in a prior? Learned proximal networks for inverse
    problems" (arXiv 2310.14344), Section 3; γ halved there, and scaled here to tend to the mean
    square.

    Raises:
        InputError: options outside their ranges.

    Example:
        >>> ProximalTraining(noise=0.1).last
        0.8
    """

    first: float = 6.4
    last: float = 0.8

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_positive(self.last, "last")
        if not self.last <= self.first < float("inf"):
            raise InputError("first must be at least last", given=(self.first, self.last))

    def losses(self, prior: Smooth, draw: Draw, progress: float) -> Tensor:
        """Of every row."""
        square = (self.level * self.first * (self.last / self.first) ** progress) ** 2
        return -square * torch.expm1(-self.error(prior, draw) / square)
