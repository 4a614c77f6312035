"""Backtracking along the projected gradient, shared by the algorithms that search their step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bilevel.ground import theta as algebra
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Trial, normalised_step
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem

__all__ = ["Accept", "Search", "below_model", "search", "sufficient_decrease"]

LONGEST = 1.0
Accept = Callable[[Evaluation, Trial, Evaluation, float], bool]
Path = Callable[[float], Trial]


def sufficient_decrease(at: Evaluation, trial: Trial, new: Evaluation, step: float) -> bool:
    """Armijo's test on corrected values; where these hide the change, that on the slopes.

    A tenth of the corrections may hide it. The slope at the new point must then not be as steep
    uphill as it was downhill here (Hager and Zhang 2005, approximate Wolfe conditions): values
    that are equal up to noise tell nothing of a step that is too long.
    """
    del step
    goal, noise = at.corrected + 0.1 * trial.slope, 0.1 * _noise(at, new)
    if new.corrected <= goal or new.corrected > goal + noise:
        return new.corrected <= goal
    move = algebra.add(trial.theta, at.theta, -1.0)
    return algebra.inner(new.grad, move) <= -0.8 * trial.slope


def below_model(at: Evaluation, trial: Trial, new: Evaluation, step: float) -> bool:
    """Whether L is below its model of curvature 1/``step`` (Beck and Teboulle 2009, Section 4)."""
    model = trial.slope + trial.moved**2 / (2 * step)
    return new.corrected <= at.corrected + model + 0.1 * _noise(at, new)


def _noise(at: Evaluation, new: Evaluation) -> float:
    return abs(at.corrected - at.value) + abs(new.corrected - new.value)


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
    problem: Problem,
    at: Evaluation,
    step: float,
    accuracy: float,
    accept: Accept,
    *,
    shrink: float = 0.5,
    attempts: int = 12,
    longest: float = LONGEST,
    direction: Theta | Path | None = None,
) -> Search:
    """Try ``step``, ``shrink`` · ``step``, ... until ``accept(at, trial, new, step)``.

    Steps go against ``direction``, the gradient if None, or along a path of trials. No entry of θ
    moves by more than ``longest`` against it: a flat loss far from the minimum would otherwise
    throw θ across it, to where the lower level is expensive. A point where more than a twentieth of
    the adjoint systems break down, and more than here, is refused: its values are not comparable.
    The accepted point comes with its gradient: nothing that was computed there is lost.
    """
    downhill = at.grad if direction is None or callable(direction) else direction
    step = min(step, normalised_step(downhill, longest))
    for tries in range(1, attempts + 1):
        trial = direction(step) if callable(direction) else Trial.along(problem, at, step, downhill)
        if trial.moved == 0:
            break
        new = problem.value_and_grad(trial.theta, tol=accuracy)
        sound = new.finite and new.unsolved <= max(at.unsolved, at.samples // 20)
        if sound and accept(at, trial, new, step):
            return Search(new, step, tries)
        step *= shrink
    return Search(None, step, attempts)
