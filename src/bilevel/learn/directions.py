"""Single-loop algorithms move x, v and θ together, along directions from a few samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.randomness import generator
from bilevel.ground.theta import Theta

__all__ = [
    "Directions",
    "Draw",
    "Iterates",
    "Pairing",
    "Pull",
    "Sampler",
    "Slopes",
    "permutation",
]


@dataclass(frozen=True)
class Iterates(Packable):
    """x and v ≈ -H⁻¹∇ℓ. Written in place: a step touches the rows of the samples drawn alone.

    Separable problems have a row for every sample, shared ones a single row.
    """

    x: Tensor
    v: Tensor

    def move(self, rows: Tensor, x: Tensor, v: Tensor) -> None:
        """Subtract ``x`` and ``v`` in the rows given."""
        self.x[rows] -= x
        self.v[rows] -= v


@dataclass(frozen=True)
class Draw:
    """Indices of the samples drawn at the lower and at the upper level."""

    inner: Tensor
    outer: Tensor


@dataclass(frozen=True)
class Pull:
    """∇_xℓ and ∂_θℓ of the samples drawn at the upper level."""

    x: Tensor
    theta: Theta


@dataclass(frozen=True)
class Directions:
    """D_x = ∇_xJ, D_v = ∇²_xxJ v + ∇ℓ, D_θ = ∂_θ∇_xJ·v + ∂_θℓ (Dagréou et al. 2022, (5)-(7)).

    ``x`` and ``v`` belong to the ``rows`` of the iterates, ``theta`` and ``value`` (the loss) are
    means over the samples drawn. ``pull`` is the share of ``v`` and ``theta`` that the upper level
    has, where its samples are drawn apart from those of the lower one. ``trust`` is the share of
    its step that θ may take, below one where x and v are behind.
    """

    x: Tensor
    v: Tensor
    theta: Theta
    value: float
    rows: Tensor
    pull: Pull | None = None
    trust: float = 1.0


@dataclass(frozen=True)
class Slopes:
    """∇_xJ, ∂_θJ, ∇_xℓ and ∂_θℓ: first derivatives alone, as penalty methods need them.

    ``lower`` and ``upper`` belong to rows of x; the others and ``value``, ℓ, are means over the
    samples drawn.
    """

    lower: Tensor
    lower_theta: Theta
    upper: Tensor
    upper_theta: Theta
    value: float


@dataclass(frozen=True)
class Sampler:
    """A fixed partition of ``count`` samples into batches, in a new random order every epoch.

    By their positions: the same samples in another order make other batches.

    Example:
        >>> sampler = Sampler(count=5, size=2, seed=0, name="lower")
        >>> sampler.batches, sorted(sampler.number(t) for t in range(3))
        (3, [0, 1, 2])
    """

    count: int
    size: int
    seed: int
    name: str

    def __post_init__(self) -> None:
        """A size that fits."""
        if not 1 <= self.size <= self.count:
            expected = f"batch_size must lie between 1 and the number of samples, {self.count}"
            raise InputError(expected, given=self.size)

    @property
    def batches(self) -> int:
        """How many there are."""
        return math.ceil(self.count / self.size)

    def number(self, t: int) -> int:
        """Which batch comes at step ``t``."""
        epoch, place = divmod(t, self.batches)
        return int(permutation(self.batches, self.seed, self.name, "epoch", epoch)[place])

    def batch(self, number: int) -> Tensor:
        """The samples of a batch."""
        order = permutation(self.count, self.seed, self.name, "batches")
        size, longer = divmod(self.count, self.batches)
        start = number * size + min(number, longer)
        return order[start : start + size + (number < longer)]


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


@lru_cache(maxsize=16)
def permutation(length: int, seed: int, *key: object) -> Tensor:
    """A random order that depends on ``seed`` and ``key``; not to be written.

    Kept, since every iteration of an epoch asks for the same two.
    """
    return torch.randperm(length, generator=generator(seed, *key))
