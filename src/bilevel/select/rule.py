"""What a rule is: a number for every reconstruction, and what is sought of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground.given import Typed
from bilevel.model import Variational
from bilevel.select.choice import Outcome
from bilevel.select.point import Point

__all__ = ["ADVICE", "CornerRule", "Goal", "Rule"]


class Goal(Enum):
    """What is sought along the weights."""

    ROOT = "root"
    MINIMUM = "minimum"
    CORNER = "corner"


class Rule(Typed, ABC):
    """A frozen dataclass; its value at a point is all that the search sees.

    A criterion whose ``goal`` is ROOT must grow with the weight where it vanishes.
    """

    goal: ClassVar[Goal] = Goal.MINIMUM
    grid: ClassVar[int | None] = None
    """Points that a minimum is first looked for at, where there may be several."""
    descending: ClassVar[bool] = False
    """Whether the minimum at the largest weight is meant, where there may be lower ones."""
    blind: ClassVar[bool] = True
    """Whether it goes by data alone, so that what it assumes of them must be checked."""

    @abstractmethod
    def value(self, point: Point) -> Tensor:
        """The criterion, (b,) float64; inf where it is not defined."""

    def prepare(self, energy: Variational, y: Tensor) -> Variational:
        """The energy that is minimised while weights are compared; the last uses all data."""
        del y
        return energy

    def begin(self, energy: Variational, y: Tensor) -> Rule:
        """The rule for one search: with all that does not depend on the weight computed."""
        del energy, y
        return self

    def check(self, energy: Variational, y: Tensor) -> None:
        """Raise InputError unless the rule applies to such data."""
        del energy, y

    def stands(self, point: Point) -> Tensor:
        """Whether the rule stands behind a minimum found there, (b,) bool."""
        return torch.ones_like(point.weight, dtype=torch.bool)

    def level(self, point: Point) -> Tensor | None:
        """The noise level that is assumed of each row, (b,) float64; None if none is."""
        del point

    def fresh(self) -> Rule | None:
        """The same with other probes or other data held out; None if nothing is random."""
        return None

    def advice(self, outcome: Outcome, value: float) -> str:
        """What to do about an outcome other than FOUND, given the criterion at the weight."""
        del value
        return ADVICE[outcome]


ADVICE = {
    Outcome.FOUND: "",
    Outcome.DOUBTFUL: "check the noise, its level and the operator",
    Outcome.EDGE: "widen the range of weights; if the optimum moves along, the rule gives none",
    Outcome.NO_ROOT: "check the noise level and widen the range of weights",
    Outcome.UNSOLVED: "smooth the regulariser more, or ask for less (accuracy of bl.select)",
    Outcome.UNDEFINED: "take another rule: these data give this one nothing to go by",
    Outcome.FLAT: "any of these weights will do: the data hardly depend on it",
}


class CornerRule(Rule):
    """A rule that seeks the corner of a curve."""

    goal: ClassVar[Goal] = Goal.CORNER

    @abstractmethod
    def coordinates(self, point: Point) -> Tensor:
        """The point of the curve, (b, 2) float64."""
