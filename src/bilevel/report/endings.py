"""How work can end: one table from every status to a few words, and to whether it is an answer."""

from __future__ import annotations

from dataclasses import dataclass

from bilevel.learn import Status
from bilevel.select import Outcome
from bilevel.solve import Status as Solved

__all__ = ["ENDINGS", "Ending"]


@dataclass(frozen=True)
class Ending:
    """A few words, and whether what was asked for was found."""

    words: str
    answered: bool


ENDINGS: dict[Status | Outcome | Solved, Ending] = {
    Status.CONVERGED: Ending("stationary, proved", True),
    Status.STATIONARY: Ending("stationary, estimated", True),
    Status.FLOOR: Ending("no further decrease can be told", True),
    Status.REACHED: Ending("criterion down to that of noise", True),
    Status.EXHAUSTED: Ending("all trials made", True),
    Status.RESOLVED: Ending("trust region small enough", True),
    Status.SCHEDULED: Ending("schedule done", True),
    Status.KINKED: Ending("stationary at a kink, not proved", True),
    Status.BUDGET: Ending("budget used up", True),
    Status.GIVEN: Ending("as given", True),
    Status.INTERRUPTED: Ending("interrupted", False),
    Status.PLATEAU: Ending("on a plateau, where the loss hardly depends on θ", False),
    Status.BROKEN: Ending("adjoint systems broke down", False),
    Status.WORSE: Ending("worse than the start", False),
    Status.DIVERGED: Ending("diverged", False),
    Status.RUNNING: Ending("still running", False),
    Outcome.FOUND: Ending("found", True),
    Outcome.DOUBTFUL: Ending("doubtful", False),
    Outcome.EDGE: Ending("at the edge", False),
    Outcome.NO_ROOT: Ending("no root", False),
    Outcome.FLAT: Ending("flat", False),
    Outcome.UNSOLVED: Ending("unsolved", False),
    Outcome.UNDEFINED: Ending("undefined", False),
    Solved.CONVERGED: Ending("converged", True),
    Solved.MAX_STEPS: Ending("max steps", False),
    Solved.STALLED: Ending("stalled", False),
    Solved.DIVERGED: Ending("diverged", False),
    Solved.RUNNING: Ending("still running", False),
}
