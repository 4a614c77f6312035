"""What a computation costs, counted per row where it is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from bilevel.ground.errors import InputError
from bilevel.ground.typed import made, table

__all__ = ["Cost"]


@dataclass
class Cost:
    """Counts summed over rows: one gradient of one sample is one gradient evaluation.

    Example:
        >>> Cost(hvps=2) + Cost(hvps=1)
        Cost(gradient_evaluations=0, hvps=3, operator_applications=0, seconds=0.0)
    """

    gradient_evaluations: int = 0
    hvps: int = 0
    operator_applications: int = 0
    seconds: float = 0.0

    def count_gradients(self, count: int) -> None:
        """So many gradients, an operator and its adjoint each."""
        self.gradient_evaluations += count
        self.operator_applications += 2 * count

    def count_hvps(self, count: int) -> None:
        """So many Hessian-vector products, an operator and its adjoint each."""
        self.hvps += count
        self.operator_applications += 2 * count

    @staticmethod
    def of(data: object) -> Cost:
        """From plain data, as in a file.

        Raises:
            InputError: entries that are missing, unknown, negative or no numbers.
        """
        given = table(data, "the cost")
        for name in {f.name for f in fields(Cost)} - given.keys():
            raise InputError(f"the cost lacks its '{name}'")
        found = made(Cost, given, "the cost")
        if not all(0 <= value < math.inf for value in vars(found).values()):
            raise InputError("the entries of a cost are finite and not negative", given=found)
        return found

    def __add__(self, other: Cost) -> Cost:
        """Sum of both, entry by entry."""
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))
