"""Which kind of objective it is: the only place that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bilevel.ground.errors import InputError
from bilevel.model.composite import CompositeObjective
from bilevel.model.objective import Curved, Objective
from bilevel.model.saddle import SaddleObjective
from bilevel.model.smooth_objective import SmoothObjective

__all__ = ["by_kind", "has_dual", "is_kind", "is_smooth", "required"]

T = TypeVar("T")
K = TypeVar("K", bound=Objective)

WORDS: dict[type[Objective], str] = {
    SmoothObjective: "a smooth energy",
    CompositeObjective: "a smooth energy plus a box or an L1 term",
    SaddleObjective: "an energy with exact total variation or another dual term",
    Curved: "an energy with second derivatives, that is, without dual terms",
}


def by_kind(
    objective: Objective,
    *,
    smooth: Callable[[SmoothObjective], T],
    composite: Callable[[CompositeObjective], T],
    saddle: Callable[[SaddleObjective], T],
) -> T:
    """What the function for that kind makes of the objective.

    Raises:
        InputError: an objective that no energy makes.

    Example:
        >>> import torch
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> objective = energy.at(torch.zeros(1, 1, 2, 2))
        >>> by_kind(objective, smooth=lambda f: 1, composite=lambda f: 2, saddle=lambda f: 3)
        1
    """
    if isinstance(objective, SmoothObjective):
        return smooth(objective)
    if isinstance(objective, CompositeObjective):
        return composite(objective)
    return saddle(required(objective, SaddleObjective, "this"))


def is_smooth(objective: Objective) -> bool:
    """Whether it has a gradient."""
    return isinstance(objective, SmoothObjective)


def is_kind(objective: Objective, kind: type[Objective]) -> bool:
    """Whether it is of that kind."""
    return isinstance(objective, kind)


def has_dual(objective: Objective) -> bool:
    """Whether it is a saddle objective, whose solutions go with dual variables."""
    return isinstance(objective, SaddleObjective)


def required(objective: Objective, kind: type[K], who: str, *, advice: str | None = None) -> K:
    """The objective, if it is of that kind.

    Raises:
        InputError: it is of another; ``who`` needs it, and the advice is a solver that fits.
    """
    if not isinstance(objective, kind):
        what = f"{who} needs {WORDS[kind]}, and this is another"
        raise InputError(what, advice=f"use {objective.fitting}" if advice is None else advice)
    return objective
