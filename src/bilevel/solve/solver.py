"""What a solver is: state in, state out, every row by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from bilevel.model.objective import Objective

__all__ = ["Solver", "State"]


class State(Protocol):
    """A frozen dataclass of tensors with one entry a row, among them the current point."""

    @property
    def x(self) -> Tensor:
        """The point that would be returned now."""
        ...


S = TypeVar("S", bound=State)


class Solver(ABC, Generic[S]):
    """Contains no mask, no reduction over rows and no stopping rule: ``minimise`` owns those."""

    @abstractmethod
    def init(self, objective: Objective, x: Tensor) -> S:
        """The state before the first step."""

    @abstractmethod
    def step(self, objective: Objective, state: S) -> S:
        """One step for every row."""
