"""How work can end: one table from every status to a few words, and to whether it is an answer."""

from __future__ import annotations

from dataclasses import dataclass

from bilevel import learn, select, solve

__all__ = ["ENDINGS", "Ending"]


@dataclass(frozen=True)
class Ending:
    """A few words, and whether what was asked for was found."""

    words: str
    answered: bool


ENDINGS: dict[learn.Status | select.Outcome | solve.Status, Ending] = {
    learn.Status.CONVERGED: Ending("stationary, proved", True),
    learn.Status.STATIONARY: Ending("stationary, estimated", True),
    learn.Status.FLOOR: Ending("no further decrease can be told", True),
    learn.Status.REACHED: Ending("criterion down to that of noise", True),
    learn.Status.EXHAUSTED: Ending("all trials made", True),
    learn.Status.RESOLVED: Ending("trust region small enough", True),
    learn.Status.KINKED: Ending("stationary at a kink, not proved", True),
    learn.Status.BUDGET: Ending("budget used up", True),
    learn.Status.INTERRUPTED: Ending("interrupted", False),
    learn.Status.PLATEAU: Ending("on a plateau, where the loss hardly depends on θ", False),
    learn.Status.BROKEN: Ending("adjoint systems broke down", False),
    learn.Status.WORSE: Ending("worse than the start", False),
    learn.Status.DIVERGED: Ending("diverged", False),
    learn.Status.RUNNING: Ending("still running", False),
    select.Outcome.FOUND: Ending("found", True),
    select.Outcome.DOUBTFUL: Ending("doubtful", False),
    select.Outcome.EDGE: Ending("at the edge", False),
    select.Outcome.NO_ROOT: Ending("no root", False),
    select.Outcome.FLAT: Ending("flat", False),
    select.Outcome.UNSOLVED: Ending("unsolved", False),
    select.Outcome.UNDEFINED: Ending("undefined", False),
    solve.Status.CONVERGED: Ending("converged", True),
    solve.Status.MAX_STEPS: Ending("max steps", False),
    solve.Status.STALLED: Ending("stalled", False),
    solve.Status.DIVERGED: Ending("diverged", False),
    solve.Status.RUNNING: Ending("still running", False),
}
