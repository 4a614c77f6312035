"""Schedules of the lower-level accuracy ε_t."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.given import Typed

__all__ = ["Adaptive", "Constant", "Geometric", "Polynomial", "Progress", "Schedule"]


@dataclass(frozen=True)
class Progress:
    """What a schedule may look at.

    ``t`` is the outer step, ``first`` is ε_0, ``last`` is ε_{t-1}; ``doubt`` is the error of the
    last hypergradient, ``norm`` its norm; ``stuck`` tells that the last step brought no decrease.
    """

    t: int
    first: float
    last: float
    doubt: float = 0.0
    norm: float = 1.0
    stuck: bool = False


class Schedule(Typed, ABC):
    """ε_t for the outer steps t = 0, 1, ..."""

    needs_estimate: ClassVar[bool] = False
    """Whether ``doubt`` should be estimated where its bound is all that is known."""

    @abstractmethod
    def accuracy(self, now: Progress) -> float:
        """ε_t [grey value]."""


@dataclass(frozen=True)
class Constant(Schedule):
    """ε_t = epsilon, whatever the problem's first accuracy.

    Args:
        epsilon: accuracy, rms [grey value].

    Example:
        >>> Constant(1e-4).accuracy(Progress(t=7, first=1e-2, last=1e-2))
        0.0001
    """

    epsilon: float

    def __post_init__(self) -> None:
        """A positive accuracy."""
        check_positive(self.epsilon, "epsilon")

    def accuracy(self, now: Progress) -> float:
        """Always the same."""
        return self.epsilon


@dataclass(frozen=True)
class Geometric(Schedule):
    """ε_t = ε_0 factor^t; summable, so limit points are stationary (Pedregosa 2016, Theorem 2).

    Args:
        factor: of each step, in (0, 1).

    Example:
        >>> Geometric(0.5).accuracy(Progress(t=2, first=1.0, last=0.5))
        0.25
    """

    factor: float = 0.8

    def __post_init__(self) -> None:
        """A factor in (0, 1)."""
        if not 0 < self.factor < 1:
            raise InputError("the factor of a geometric schedule lies in (0, 1)", given=self.factor)

    def accuracy(self, now: Progress) -> float:
        """ε_0 factor^t."""
        return now.first * self.factor**now.t


@dataclass(frozen=True)
class Polynomial(Schedule):
    """ε_t = ε_0 (t + 1)^-power.

    Args:
        power: above 1 it is summable.

    Example:
        >>> Polynomial(2.0).accuracy(Progress(t=1, first=1.0, last=1.0))
        0.25
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        """A positive power."""
        check_positive(self.power, "power")

    def accuracy(self, now: Progress) -> float:
        """ε_0 (t + 1)^-power."""
        return float(now.first * (now.t + 1) ** -self.power)


@dataclass(frozen=True)
class Adaptive(Schedule):
    """ε_t is halved whenever the gradient's error is a large part of its norm.

    Halve ε whenever the gradient's error exceeds ``fraction`` of its norm, or when stuck.

    Args:
        fraction: which part of the norm is too large.

    Example:
        >>> Adaptive(0.5).accuracy(Progress(t=3, first=1.0, last=0.5, doubt=0.9))
        0.25
    """

    needs_estimate: ClassVar[bool] = True
    fraction: float = 0.5

    def __post_init__(self) -> None:
        """A positive fraction."""
        check_positive(self.fraction, "fraction")

    def accuracy(self, now: Progress) -> float:
        """ε_{t-1} or half of it."""
        return now.last / 2 if now.stuck or now.doubt > self.fraction * now.norm else now.last
