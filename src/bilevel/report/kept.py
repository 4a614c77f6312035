"""Fits that a reproduction keeps, and whether a later run asks for the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta
from bilevel.ground.typed import made, parsed, table
from bilevel.learn import Budget, Fit, Problem, load
from bilevel.learn.identity import Identity

__all__ = ["Asked", "kept"]

NAME = "asked.json"
"""Beside a fit that was learned to its end."""


@dataclass(frozen=True)
class Asked:
    """What a fit was learned by: another method, budget, start or problem makes another fit.

    Attributes:
        method: with its options, and the budget.
        problem: with θ at the start.
    """

    method: str
    problem: Identity

    @staticmethod
    def of(problem: Problem, method: object, theta0: Theta | None, budget: Budget) -> Asked:
        """Before learning."""
        start = {**problem.theta, **(theta0 or {})}
        return Asked(f"{method!r}, {budget!r}", problem.identity(start))

    def same(self, other: Asked) -> bool:
        """Whether both would make the same fit."""
        return self.method == other.method and self.problem.difference(other.problem) is None


def kept(folder: Path, asked: Asked, learned: Callable[[], Fit], *, take: bool) -> Fit:
    """The fit in ``folder`` if it was asked for so and ``take``, otherwise what is learned now.

    A fit that was not learned to its end is learned anew.
    """
    note = folder / NAME
    before = _read(note) if take and note.is_file() else None
    if before is not None and before.same(asked):
        return load(folder)
    note.unlink(missing_ok=True)
    fit = learned()
    note.write_text(json.dumps(asdict(asked), indent=1) + "\n", encoding="utf-8")
    return fit


def _read(note: Path) -> Asked | None:
    """What a file says; None if it was cut off while it was written."""
    try:
        data = table(parsed(note.read_bytes()), note.name)
        inner = made(Identity, table(data.get("problem"), note.name), note.name)
        return made(Asked, {**data, "problem": inner}, note.name)
    except InputError:
        return None
