"""How accurate the evaluations of the upper level are: one policy for all algorithms."""

from __future__ import annotations

from dataclasses import dataclass

from bilevel.ground.checks import check_positive
from bilevel.ground.theta import Theta
from bilevel.learn.problem import Problem

__all__ = ["FROM_DATA", "Accuracy"]

FLOOR, MOST = 1e-7, 0.1
"""The least and the loosest accuracy, relative to the contrast of the images."""


@dataclass(frozen=True)
class Accuracy:
    """ε_0 to begin with, and a floor below which nothing is asked for; rms [grey value].

    What is given is taken as it is; what is not follows the problem, in any unit of grey values.

    Args:
        first: ε_0; None takes 2 % of the first residual, see ``problem.first_accuracy``.
        floor: None takes 1e-7 of the contrast of the images.

    Raises:
        InputError: an accuracy that is not positive.

    Example:
        >>> Accuracy(first=1e-3)
        Accuracy(first=0.001, floor=None)
    """

    first: float | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        """Check what is given."""
        for name, value in (("first", self.first), ("floor", self.floor)):
            if value is not None:
                check_positive(value, f"the {name} accuracy")

    def start(self, problem: Problem, theta: Theta) -> float:
        """ε_0."""
        return problem.first_accuracy(theta) if self.first is None else self.first

    def least(self, problem: Problem) -> float:
        """The floor."""
        return FLOOR * problem.contrast if self.floor is None else self.floor

    def above(self, problem: Problem, accuracy: float) -> float:
        """``accuracy``, or the floor if that is larger."""
        return max(accuracy, self.least(problem))

    def below(self, problem: Problem, accuracy: float) -> float:
        """``accuracy``, or a tenth of the contrast if that is smaller."""
        return min(accuracy, MOST * problem.contrast)


FROM_DATA = Accuracy()
"""Nothing is given: all follows the problem."""
