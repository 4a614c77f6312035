"""Random search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_count
from bilevel.ground.randomness import generator
from bilevel.learn.trials import TrialSearch

__all__ = ["RandomSearch"]


@dataclass(frozen=True)
class RandomSearch(TrialSearch):
    """Points drawn uniformly from a box.

    Points drawn uniformly from a box (Bergstra and Bengio 2012).

    Args:
        box: the interval of each parameter; the others stay where they start.
        trials: how many points.
        seed: of the points.
        accuracy: of the lower level, rms [grey value]; 1e-3 of the contrast if None.

    Raises:
        InputError: an empty box, or no trials.

    Example:
        >>> search = RandomSearch({"a": (3.0, 4.0)}, trials=5)
        >>> none = torch.zeros(0)
        >>> bool(3 <= search.point(none, none) <= 4)
        True
    """

    trials: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_count(self.trials, "trials")

    @property
    def count(self) -> int:
        """All of them."""
        return self.trials

    def point(self, points: Tensor, values: Tensor) -> Tensor:
        """Depends on the seed and the number of the trial alone."""
        del points
        drawn = generator(self.seed, "trial", len(values))
        return self.scaled(torch.rand(len(self.box), generator=drawn, dtype=torch.float64))
