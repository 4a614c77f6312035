"""Another face of a problem."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from torch import Tensor

from bilevel.differentiate import Upper
from bilevel.ground.theta import Theta
from bilevel.learn.problem import BilevelProblem, Memory
from bilevel.model import Objective

__all__ = ["View"]


class View(BilevelProblem):
    """``whole`` as something else: its reconstructions, cost, clock and budget are shared.

    Example:
        >>> import torch, bilevel as bl
        >>> pairs = bl.data.Pairs(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ("one",))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> View(problem).pairs is pairs
        True
    """

    def __init__(self, whole: BilevelProblem) -> None:
        """All that is not said otherwise is that of ``whole``."""
        vars(self).update(vars(whole))
        self.whole = whole

    @property
    def counts(self) -> tuple[int, int]:
        """Those of the whole problem."""
        return self.whole.counts

    @property
    def separable(self) -> bool:
        """As the whole problem."""
        return self.whole.separable

    @property
    def memory(self) -> Memory:
        """That of the whole problem."""
        return self.whole.memory

    @memory.setter
    def memory(self, memory: Memory) -> None:
        self.whole.memory = memory

    def lower_at(self, theta: Theta, index: Tensor) -> Objective:
        """That of the whole problem."""
        return self.whole.lower_at(theta, index)

    def upper_at(self, theta: Theta, index: Tensor) -> Upper:
        """That of the whole problem."""
        return self.whole.upper_at(theta, index)

    def some(self, count: int) -> Tensor:
        """Those of the whole problem."""
        return self.whole.some(count)

    @contextmanager
    def metered(self) -> Generator[None]:
        """On the clock of the whole problem: nothing is counted twice."""
        with self.whole.metered():
            yield
