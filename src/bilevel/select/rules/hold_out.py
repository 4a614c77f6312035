"""Predicting data that the reconstruction has not seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.model.operators import Composition, Mask
from bilevel.risk.held import check_part, held_out, left, prediction_error
from bilevel.risk.noise import check_quadratic
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule

__all__ = ["HoldOut"]


@dataclass(frozen=True)
class HoldOut(Rule):
    """Data held out are predicted from the rest: σ not needed.

    The mean of (A x_w - y)² over a random part of the data; x_w is made from the rest.

    It needs no noise level. The final reconstruction, with the weight chosen, uses all data.

    Args:
        part: of the data that is held out [1].
        seed: of the choice.

    Raises:
        InputError: a part outside (0, 1).

    Example:
        >>> HoldOut(part=0.2).seed
        0
    """

    part: float = 0.1
    seed: int = 0
    goal: ClassVar[Goal] = Goal.MINIMUM

    def __post_init__(self) -> None:
        """Check the options."""
        check_part(self.part)

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian noise, and data enough to keep some and hold some out."""
        check_quadratic("hold-out", energy)
        held_out(energy, y, self.part, self.seed)

    def prepare(self, energy: Variational, y: Tensor) -> Variational:
        """Ψ(Mask A x; y): data held out add a constant."""
        return left(energy, y, held_out(energy, y, self.part, self.seed))

    def fresh(self) -> Rule:
        """With other data held out."""
        return replace(self, seed=self.seed + 1)

    def value(self, point: Point) -> Tensor:
        """The mean squared error of the data held out [unit of the data squared]."""
        operator = point.energy.fidelity.operator
        if not (isinstance(operator, Composition) and isinstance(operator.outer, Mask)):
            raise InputError("hold-out needs the energy that it prepared")
        return prediction_error(operator.inner(point.x), point.y, operator.outer.mask == 0)
