"""Which samples of both levels an iteration looks at."""

from __future__ import annotations

from dataclasses import dataclass

from bilevel.ground.errors import InputError
from bilevel.learn.directions import Draw, Sampler

__all__ = ["Pairing"]


@dataclass(frozen=True)
class Pairing:
    """A batch of each level, each level in epochs of its own.

    All batches of a level have the same size, so that the mean over an epoch is that over the
    samples: the largest divisor of its number of samples up to ``size``. Directions are sums of a
    part for each level, so that pairs need not come equally often for their mean to be the whole.

    Raises:
        InputError: a size above the number of samples.

    Example:
        >>> pairing = Pairing.of((6, 4), size=2, seed=0)
        >>> pairing.epoch, len(pairing.draw(0).inner)
        (3, 2)
    """

    lower: Sampler
    upper: Sampler

    @staticmethod
    def of(counts: tuple[int, int], size: int, seed: int) -> Pairing:
        """For so many samples at the lower and the upper level."""
        if size > max(counts):
            expected = f"batch_size must be at most the number of samples, {max(counts)}"
            raise InputError(expected, given=size)
        lower, upper = (
            Sampler(count, _divisor(count, size), seed, name)
            for count, name in zip(counts, ("lower", "upper"), strict=True)
        )
        return Pairing(lower, upper)

    @property
    def epoch(self) -> int:
        """Iterations in which the larger side is seen once."""
        return max(self.lower.batches, self.upper.batches)

    def numbers(self, t: int) -> tuple[int, int]:
        """Which batches of the lower and of the upper level come in iteration ``t``."""
        return self.lower.number(t), self.upper.number(t)

    def draw(self, t: int) -> Draw:
        """The samples of iteration ``t``."""
        lower, upper = self.numbers(t)
        return Draw(self.lower.batch(lower), self.upper.batch(upper))


def _divisor(count: int, size: int) -> int:
    return next(d for d in range(min(size, count), 0, -1) if count % d == 0)
