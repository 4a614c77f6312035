"""What a rule answers: a weight for every image, and what speaks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model import Cost
from bilevel.solve import Certificate

__all__ = ["Choice", "Curve", "Outcome"]


class Outcome(Enum):
    """How the search for a weight ended, row by row."""

    FOUND = "found"
    DOUBTFUL = "found, but the data contradict what the rule assumes"
    EDGE = "the best weight lies at the edge of the range searched"
    NO_ROOT = "no weight of the range meets the condition"
    FLAT = "the criterion hardly depends on the weight"
    UNSOLVED = "the reconstruction at the weight missed its accuracy"
    UNDEFINED = "the criterion is not defined at any weight tried"


@dataclass(frozen=True)
class Curve:
    """The criterion at all weights tried, (n, b) float64 each, ascending; inf where none was."""

    weight: Tensor
    value: Tensor

    def row(self, k: int) -> tuple[Tensor, Tensor]:
        """Weights and values of row k."""
        tried = self.weight[:, k].isfinite()
        return self.weight[tried, k], self.value[tried, k]

    def at(self, weight: Tensor) -> Tensor:
        """The values at the weights nearest to ``weight``, (b,)."""
        nearest = (self.weight.log() - weight.log()).abs().argmin(0, keepdim=True)
        return self.value.gather(0, nearest)[0]

    @staticmethod
    def join(parts: Sequence[Curve]) -> Curve:
        """The rows of all parts, one after the other."""
        longest = max(len(part.weight) for part in parts)
        weight, value = (
            torch.cat([_lengthened(getattr(part, name), longest) for part in parts], 1)
            for name in ("weight", "value")
        )
        return Curve(weight, value)

    @staticmethod
    def of(weights: list[Tensor], values: list[Tensor]) -> Curve:
        """Sorted by weight; what was not tried is inf."""
        weight, value = torch.stack(weights), torch.stack(values)
        order = weight.argsort(0)
        return Curve(weight.gather(0, order), value.gather(0, order))


def _lengthened(lines: Tensor, count: int) -> Tensor:
    more = lines.new_full((count - len(lines), lines.shape[1]), torch.inf)
    return torch.cat([lines, more])


@dataclass(frozen=True)
class Choice:
    """The weight that a rule chose for each row, with its reconstruction.

    ``weight`` multiplies the regulariser as it was given, (b,) float64 [1]. ``outcome`` says of
    each row how the search ended and ``advice`` what to do where it is not FOUND; the weight is
    then the best of those tried.
    """

    rule: str
    weight: Tensor
    x: Tensor
    certificate: Certificate
    curve: Curve
    outcome: tuple[Outcome, ...]
    advice: tuple[str, ...]
    cost: Cost

    @property
    def value(self) -> Tensor:
        """The criterion at the weight, (b,) float64."""
        return self.curve.at(self.weight)

    @property
    def found(self) -> Tensor:
        """Which rows have a weight that the rule stands behind, (b,) bool."""
        return torch.tensor([outcome is Outcome.FOUND for outcome in self.outcome])

    @staticmethod
    def join(rule: str, parts: Sequence[Choice]) -> Choice:
        """The rows of all parts, one after the other, under the name ``rule``."""
        return Choice(
            rule=rule,
            weight=torch.cat([part.weight for part in parts]),
            x=torch.cat([part.x for part in parts]),
            certificate=rows.join([part.certificate for part in parts]),
            curve=Curve.join([part.curve for part in parts]),
            outcome=tuple(one for part in parts for one in part.outcome),
            advice=tuple(one for part in parts for one in part.advice),
            cost=sum((part.cost for part in parts), Cost()),
        )
