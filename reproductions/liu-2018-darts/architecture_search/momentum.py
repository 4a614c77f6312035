"""Momentum on the network weights, the same in a search and in training from scratch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from bilevel.ground.checks import check_nonnegative, check_positive
from bilevel.ground.errors import InputError

__all__ = ["Momentum"]


@dataclass(frozen=True)
class Momentum:
    """Steps along a mean of gradients, none of them longer than ``clip``.

    Args:
        step: the first step size; it falls to zero as a cosine.
        kept: how much of the velocity a step keeps.
        clip: gradients longer than this are shortened to it, as in the program of arXiv:1806.09055.

    Raises:
        InputError: an option out of range.

    Example:
        >>> import torch
        >>> x, velocity = torch.zeros(1), torch.zeros(1)
        >>> Momentum(0.1, clip=5.0).moved(x, velocity, torch.tensor([-50.0]), share=0.0)
        (tensor([0.5000]), tensor([-5.]))
    """

    step: float
    kept: float = 0.9
    clip: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.step, "step")
        check_positive(self.clip, "clip")
        check_nonnegative(self.kept, "momentum")
        if self.kept >= 1:
            raise InputError("momentum must be below 1", given=self.kept)

    def moved(
        self, x: Tensor, velocity: Tensor, slope: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """x and velocity after the step taken when ``share`` of all steps are done."""
        short = slope * (self.clip / max(float(slope.norm()), self.clip))
        velocity = self.kept * velocity + short
        size = self.step * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        return x - size * velocity, velocity
