"""Schedules of the lower-level accuracy ε_t."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError

__all__ = ["Adaptive", "Constant", "Geometric", "Polynomial", "Schedule"]


class Schedule(ABC):
    """ε_t for the outer steps t = 0, 1, ..., given the first accuracy ε_0 and the last gradient."""

    needs_estimate: ClassVar[bool] = False
    """Whether ``doubt`` should be estimated where its bound is all that is known."""

    @abstractmethod
    def accuracy(self, t: int, first: float, doubt: float, norm: float, last: float) -> float:
        """ε_t [grey value].

        Args:
            t: outer step.
            first: ε_0.
            doubt: error of the last hypergradient.
            norm: its norm.
            last: ε_{t-1}.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """ε_t = ε, whatever the problem's first accuracy.

    Example:
        >>> Constant(1e-4).accuracy(7, 1e-2, 0.0, 1.0, 1e-2)
        0.0001
    """

    epsilon: float

    def __post_init__(self) -> None:
        """A positive accuracy."""
        check_positive(self.epsilon, "epsilon")

    def accuracy(self, t: int, first: float, doubt: float, norm: float, last: float) -> float:
        """Always the same."""
        return self.epsilon


@dataclass(frozen=True)
class Geometric(Schedule):
    """ε_t = ε_0 c^t; summable, so limit points are stationary (Pedregosa 2016, Theorem 2).

    Example:
        >>> Geometric(0.5).accuracy(2, 1.0, 0.0, 1.0, 1.0)
        0.25
    """

    factor: float = 0.8

    def __post_init__(self) -> None:
        """A factor in (0, 1)."""
        if not 0 < self.factor < 1:
            raise InputError("the factor of a geometric schedule lies in (0, 1)", given=self.factor)

    def accuracy(self, t: int, first: float, doubt: float, norm: float, last: float) -> float:
        """ε_0 c^t."""
        return first * self.factor**t


@dataclass(frozen=True)
class Polynomial(Schedule):
    """ε_t = ε_0 (t + 1)^-p; summable for p > 1.

    Example:
        >>> Polynomial(2.0).accuracy(1, 1.0, 0.0, 1.0, 1.0)
        0.25
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        """A positive power."""
        check_positive(self.power, "power")

    def accuracy(self, t: int, first: float, doubt: float, norm: float, last: float) -> float:
        """ε_0 (t + 1)^-p."""
        return float(first * (t + 1) ** -self.power)


@dataclass(frozen=True)
class Adaptive(Schedule):
    """Halve ε whenever the gradient's error exceeds ``fraction`` of its norm, else let it be.

    Example:
        >>> Adaptive(0.5).accuracy(3, 1.0, 0.9, 1.0, 0.5)
        0.25
    """

    needs_estimate: ClassVar[bool] = True
    fraction: float = 0.5

    def __post_init__(self) -> None:
        """A positive fraction."""
        check_positive(self.fraction, "fraction")

    def accuracy(self, t: int, first: float, doubt: float, norm: float, last: float) -> float:
        """ε_{t-1} or half of it."""
        return last / 2 if doubt > self.fraction * norm else last
