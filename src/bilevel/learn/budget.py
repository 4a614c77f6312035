"""How much a fit may cost, and what it has cost so far."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from bilevel.ground.errors import InputError
from bilevel.ground.given import Typed
from bilevel.model import Cost

__all__ = ["Budget", "BudgetExhausted", "Ledger"]


class BudgetExhausted(Exception):
    """Raised before an evaluation that the budget has no room for."""


@dataclass(frozen=True)
class Budget(Typed):
    """Limits of a fit; the first one that is reached ends it. With no step at all θ stays as given.

    Raises:
        InputError: a limit that is not positive, steps that are not whole, or no finite limit.

    Example:
        >>> Budget(steps=3).exceeded(Cost(), steps=3)
        True
    """

    seconds: float = math.inf
    steps: float = math.inf
    gradient_evaluations: float = math.inf

    def __post_init__(self) -> None:
        """Refuse empty budgets."""
        for name in ("seconds", "gradient_evaluations"):
            if not getattr(self, name) > 0:
                raise InputError(
                    f"the {name} of a budget must be positive", given=getattr(self, name)
                )
        if not (self.steps == math.inf or (self.steps >= 0 and self.steps % 1 == 0)):
            raise InputError("the steps of a budget must be a whole number", given=self.steps)
        if min(self.seconds, self.steps, self.gradient_evaluations) == math.inf:
            raise InputError("a budget needs a finite limit", advice="e.g. Budget(seconds=60)")

    def after(self, cost: Cost) -> Budget:
        """The same on top of what was spent already; steps are counted anew."""
        return Budget(
            seconds=self.seconds + cost.seconds,
            steps=self.steps,
            gradient_evaluations=self.gradient_evaluations + cost.gradient_evaluations,
        )

    def share(self, cost: Cost, steps: int = 0) -> float:
        """How much of it is used up, in [0, 1].

        Example:
            >>> Budget(steps=4, seconds=100).share(Cost(seconds=10), steps=1)
            0.25
        """
        used = (
            cost.seconds / self.seconds,
            steps / self.steps if self.steps else 1.0,
            cost.gradient_evaluations / self.gradient_evaluations,
        )
        return min(max(used), 1.0)

    def left(self, cost: Cost, steps: int = 0) -> float:
        """About how many seconds it will last, at the pace so far; nan at the start.

        Example:
            >>> Budget(steps=4).left(Cost(seconds=10), steps=1)
            30.0
        """
        share = self.share(cost, steps)
        return cost.seconds * (1 - share) / share if share else math.nan

    def exceeded(self, cost: Cost, steps: int = 0) -> bool:
        """Whether nothing is left."""
        return (
            cost.seconds >= self.seconds
            or steps >= self.steps
            or cost.gradient_evaluations >= self.gradient_evaluations
        )


class Ledger:
    """The one account of a problem and of all that delegate to it: cost, clock and budget.

    Args:
        cost: written in place from now on, never replaced.

    Example:
        >>> ledger = Ledger(Cost())
        >>> with ledger.metered():
        ...     pass
        >>> ledger.cost.seconds > 0
        True
    """

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self.budget: Budget | None = None
        self._clock: float | None = None

    def restart(self, spent: Cost) -> None:
        """Go on counting from ``spent``."""
        for entry in fields(Cost):
            setattr(self.cost, entry.name, getattr(spent, entry.name))

    @contextmanager
    def metered(self) -> Generator[None]:
        """Counts the seconds spent inside, whatever is metered within once.

        Raises:
            BudgetExhausted: during ``learn``, when the budget is used up.
        """
        outer, start = self._clock, time.perf_counter()
        self._tick(start)
        try:
            if self.budget is not None and self.budget.exceeded(self.cost):
                raise BudgetExhausted
            yield
        finally:
            self._tick(time.perf_counter())
            if outer is None:
                self._clock = None

    def _tick(self, now: float) -> None:
        if self._clock is not None:
            self.cost.seconds += now - self._clock
        self._clock = now
