"""How much a fit may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bilevel.ground.errors import InputError
from bilevel.model import Cost

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """Limits of a fit; the first one that is reached ends it.

    Raises:
        InputError: a limit that is not positive, or none that is finite.

    Example:
        >>> Budget(steps=3).exceeded(Cost(), steps=3)
        True
    """

    seconds: float = math.inf
    steps: float = math.inf
    gradient_evaluations: float = math.inf

    def __post_init__(self) -> None:
        """Refuse empty budgets."""
        limits = (self.seconds, self.steps, self.gradient_evaluations)
        if not all(limit > 0 for limit in limits):
            raise InputError("every limit of a budget must be positive", given=limits)
        if not any(math.isfinite(limit) for limit in limits):
            raise InputError("a budget needs a finite limit", advice="e.g. Budget(seconds=60)")

    def after(self, cost: Cost) -> Budget:
        """The same on top of what was spent already; steps are counted anew."""
        return Budget(
            seconds=self.seconds + cost.seconds,
            steps=self.steps,
            gradient_evaluations=self.gradient_evaluations + cost.gradient_evaluations,
        )

    def exceeded(self, cost: Cost, steps: int = 0) -> bool:
        """Whether nothing is left."""
        return (
            cost.seconds >= self.seconds
            or steps >= self.steps
            or cost.gradient_evaluations >= self.gradient_evaluations
        )
