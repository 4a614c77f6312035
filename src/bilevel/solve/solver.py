"""What a solver is: state in, state out, every row by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.given import Typed
from bilevel.model.objective import Objective
from bilevel.model.saddle import Dual
from bilevel.model.smooth_objective import SmoothObjective

__all__ = ["Solver", "State"]


class State(Protocol):
    """A frozen dataclass of tensors with one entry a row, among them the current point."""

    @property
    def x(self) -> Tensor:
        """The point that would be returned now."""
        ...


S = TypeVar("S", bound=State)


class Solver(Typed, ABC, Generic[S]):
    """Contains no mask, no reduction over rows and no stopping rule: ``minimise`` owns those."""

    check_every: ClassVar[int] = 10
    """Steps between certificates, unless asked otherwise: 1 where ``gradient`` makes them free."""

    differentiable: ClassVar[bool] = True
    """Whether autograd can follow a step; not where states are written in place."""

    takes: ClassVar[type[Objective]] = SmoothObjective
    """The kind of objective that ``init`` and ``step`` are given."""

    @abstractmethod
    def init(self, objective: Any, x: Tensor) -> S:
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
    def step(self, objective: Any, state: S) -> S:
        """One step for every row."""


def curvature_range(objective: Objective, name: str, advice: str) -> tuple[Tensor, Tensor]:
    """L and the proved mu (or 0) of each row, (b,) float64 each, for the method ``name``.

    Raises:
        InputError: no Lipschitz constant is declared, so that no step is safe.
    """
    lipschitz = objective.bounds.lipschitz
    if not bool(torch.isfinite(lipschitz).all()):
        raise InputError(f"{name} needs a Lipschitz constant", advice=advice)
    return lipschitz, objective.bounds.proved_mu()
