"""What a solver is: state in, state out, every row by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from bilevel.model.energy import EnergyObjective
from bilevel.model.objective import Objective
from bilevel.model.saddle import Dual

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

    check_every: ClassVar[int] = 10
    """Steps between certificates, unless asked otherwise: 1 where ``gradient`` makes them free."""

    differentiable: ClassVar[bool] = True
    """Whether autograd can follow a step; not where states are written in place."""

    takes: ClassVar[type[Objective]] = EnergyObjective
    """The objectives that the solver is for."""

    @abstractmethod
    def init(self, objective: Objective, x: Tensor) -> S:
        """The state before the first step."""

    def gradient(self, state: S) -> Tensor | None:
        """∇J at ``state.x`` where the last step computed it: certificates then cost less."""
        del state
        return None

    def dual(self, state: S) -> Dual | None:
        """Dual variables that go with ``state.x``, where the method has them."""
        del state
        return None

    def stuck(self, state: S) -> Tensor | None:
        """Rows that cannot move any more, (b,) bool; None if the solver cannot tell."""
        del state
        return None

    @abstractmethod
    def step(self, objective: Objective, state: S) -> S:
        """One step for every row."""
