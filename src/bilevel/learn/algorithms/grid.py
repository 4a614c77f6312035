"""Grid search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.learn.trials import TrialSearch

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid(TrialSearch):
    """All points of a regular grid, ends included: the baseline that every paper has.

    Args:
        box: the interval of each parameter; weights are stored as logarithms, so that a regular
            grid of them is logarithmic. Parameters not named stay where they start.
        points: for each parameter; the cost grows as their power.
        accuracy: of the lower level, rms [grey value]; 1e-3 of the contrast if None.

    Raises:
        InputError: an empty box, or fewer than two points.

    Example:
        >>> grid = Grid({"a": (0.0, 1.0), "b": (0.0, 2.0)}, points=3)
        >>> none = torch.zeros(5)
        >>> grid.count, grid.point(none, none)
        (9, tensor([0.5000, 2.0000], dtype=torch.float64))
    """

    points: int = 10

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.points < 2:
            raise InputError("a grid needs at least two points an axis", given=self.points)

    @property
    def count(self) -> int:
        """points^d."""
        return self.points ** len(self.box)

    def point(self, points: Tensor, values: Tensor) -> Tensor:
        """In the order of the digits of the trial's number; the last parameter runs fastest."""
        del points
        place = len(values)
        digits: list[int] = []
        for _ in self.box:
            place, digit = divmod(place, self.points)
            digits.insert(0, digit)
        return self.scaled(torch.tensor(digits, dtype=torch.float64) / (self.points - 1))
