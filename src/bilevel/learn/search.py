"""Backtracking along the projected gradient, shared by the algorithms that search their step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bilevel.learn.algorithm import Trial, normalised_step
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import BilevelProblem

__all__ = ["Accept", "Search", "search"]

Accept = Callable[[Evaluation, Trial, Evaluation, float], bool]


@dataclass(frozen=True)
class Search:
    """The evaluation at the accepted point (None if none was), the last step, the tries."""

    evaluation: Evaluation | None
    step: float
    tries: int

    @property
    def accepted(self) -> bool:
        """Whether a point was accepted."""
        return self.evaluation is not None


def search(
    problem: BilevelProblem,
    at: Evaluation,
    step: float,
    accuracy: float,
    accept: Accept,
    *,
    shrink: float = 0.5,
    attempts: int = 12,
    longest: float = 1.0,
) -> Search:
    """Try ``step``, ``shrink`` · ``step``, ... until ``accept(at, trial, new, step)``.

    No entry of θ moves by more than ``longest``: a flat loss far from the minimum would
    otherwise throw θ across it, to where the lower level is expensive.

    The accepted point comes with its gradient: nothing that was computed there is lost.
    """
    step = min(step, normalised_step(at, longest))
    for tries in range(1, attempts + 1):
        trial = Trial.along(problem, at, step)
        if trial.moved == 0:
            break
        new = problem.value_and_grad(trial.theta, tol=accuracy)
        if new.finite and accept(at, trial, new, step):
            return Search(new, step, tries)
        step *= shrink
    return Search(None, step, attempts)
