"""What a method is that trains a regulariser before the bilevel problem is solved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from bilevel.ground.given import Typed
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Algorithm
from bilevel.learn.problem import Problem
from bilevel.learn.separable import BilevelProblem

__all__ = ["Method"]


class Method(Typed, ABC):
    """Another problem for the parameters of a bilevel one, and what solves it."""

    @abstractmethod
    def problem(self, whole: BilevelProblem, theta: Theta, seed: int) -> Problem:
        """The other problem, from ``theta`` on.

        Raises:
            InputError: a problem that the method is not for.
        """

    @abstractmethod
    def solver(self) -> Algorithm[Any]:
        """What solves it."""
