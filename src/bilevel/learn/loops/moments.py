"""Adam's moments of the directions of θ."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta

__all__ = ["Moments"]

_SMALL = 1e-30


@dataclass(frozen=True)
class Moments(Packable):
    """Exponential means of directions and of their squares (Kingma and Ba 2015, Algorithm 1).

    Example:
        >>> start = {"w": torch.zeros(2)}
        >>> direction, _ = Moments.zeros(start).scaled({"w": torch.tensor([5.0, -0.1])})
        >>> direction["w"].round(decimals=3)
        tensor([ 1., -1.])
    """

    first: Theta
    second: Theta
    count: int = 0

    @staticmethod
    def zeros(like: Theta) -> Moments:
        """Before the first direction."""
        zero = {name: torch.zeros_like(value) for name, value in like.items()}
        return Moments(zero, dict(zero))

    def scaled(
        self, found: Theta, *, kept: float = 0.9, memory: float = 0.999
    ) -> tuple[Theta, Moments]:
        """The direction in units of its own size, and the moments with it.

        A step keeps ``kept``, β_1, of the mean of directions, and ``memory``, β_2, of that of their
        squares.
        """
        first = {n: kept * self.first[n] + (1 - kept) * d for n, d in found.items()}
        second = {n: memory * self.second[n] + (1 - memory) * d * d for n, d in found.items()}
        count = self.count + 1
        unbiased = (1 - memory**count) ** 0.5 / (1 - kept**count)
        direction = {n: unbiased * first[n] / (second[n].sqrt() + _SMALL) for n in found}
        return direction, Moments(first, second, count)
