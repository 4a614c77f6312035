"""Adam on batches that are drawn anew in every step, at a rate that falls with the budget."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta, add
from bilevel.learn.algorithm import Algorithm, Status
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.loops.moments import Moments
from bilevel.learn.problem import Problem

__all__ = ["Descent", "Drawn"]


class Drawn(Problem):
    """A problem that is looked at through other draws in every step."""

    @abstractmethod
    def drawn(self, theta: Theta, t: int, progress: float) -> Evaluation:
        """Loss and gradient at what step ``t`` draws; ``progress`` of the budget is in [0, 1]."""

    def settled(self, theta: Theta) -> Theta:
        """Where a step to ``theta`` ends: the nearest point of Θ."""
        return self.space.project(theta)

    @property
    @abstractmethod
    def words(self) -> str:
        """What is minimised, for reports."""


@dataclass(frozen=True)
class DescentState(Packable):
    """Where it is; the evaluation is that of batch ``t``."""

    evaluation: Evaluation
    step: float
    moments: Moments
    t: int = 0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class Descent(Algorithm[DescentState]):
    """Adam (Kingma and Ba 2015), projected onto Θ after each step.

    It ends by budget: a batch says nothing about the gradient of all.

    Args:
        rate: how far an entry of θ moves in a step, at the start.
        decay: share of it that is left when the budget is used up.
        momentum: β_1.
        memory: β_2; with 0.999 steps are tiny after slopes have fallen a hundredfold at the start.
    """

    rate: float
    decay: float
    momentum: float
    memory: float

    def about(self, problem: Problem) -> str:
        """The method."""
        return _drawn(problem).words

    def init(self, problem: Problem, theta: Theta) -> DescentState:
        """The first batch."""
        at = _drawn(problem).drawn(theta, 0, progress(problem, 0))
        return DescentState(at, self.rate, Moments.zeros(theta), status=_status(at))

    def step(self, problem: Problem, state: DescentState) -> DescentState:
        """Move along the last batch's gradient, and look at the next batch."""
        at, t = state.evaluation, state.t + 1
        part = progress(problem, t)
        direction, moments = state.moments.scaled(at.grad, kept=self.momentum, memory=self.memory)
        step = self.rate * self.decay**part
        theta = _drawn(problem).settled(add(at.theta, direction, -step))
        new = _drawn(problem).drawn(theta, t, part)
        return replace(state, evaluation=new, step=step, moments=moments, t=t, status=_status(new))


def progress(problem: Problem, steps: int) -> float:
    """How much of the budget is used up, in [0, 1]; 0 without one."""
    ledger = problem.level.ledger
    return 0.0 if ledger.budget is None else ledger.budget.share(ledger.cost, steps)


def _drawn(problem: Problem) -> Drawn:
    if not isinstance(problem, Drawn):
        advice = "use bl.pretrain"
        raise InputError("Descent needs a problem that draws", given=problem, advice=advice)
    return problem


def _status(at: Evaluation) -> Status:
    return Status.RUNNING if at.finite else Status.DIVERGED
