"""What a rule answers: a weight for every image, and what speaks for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from bilevel.model import Cost
from bilevel.solve import Certificate

__all__ = ["Choice", "Curve", "Outcome"]


class Outcome(Enum):
    """How the search for a weight ended, row by row."""

    FOUND = "found"
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
    def of(weights: list[Tensor], values: list[Tensor]) -> Curve:
        """Sorted by weight; what was not tried is inf."""
        weight, value = torch.stack(weights), torch.stack(values)
        order = weight.argsort(0)
        return Curve(weight.gather(0, order), value.gather(0, order))


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
