"""What an upper-level algorithm is: state in, state out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar, runtime_checkable

from bilevel.ground import theta as algebra
from bilevel.ground.given import Typed
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem

__all__ = [
    "Algorithm",
    "State",
    "Status",
    "Trial",
    "normalised_step",
    "projected_gradient_norm",
    "settled",
    "verdict",
]


class Status(Packable, Enum):
    """Why a fit ended."""

    RUNNING = "running"
    CONVERGED = "the projected gradient is small, and so is its proved error"
    STATIONARY = "the projected gradient is small, and so is its estimated error (not proved)"
    FLOOR = "no further decrease can be told from rounding or from the limit of the lower solver"
    REACHED = "the criterion is down to what pure noise has: going on would fit it"
    EXHAUSTED = "all trials are made (a search proves nothing about what lies between them)"
    RESOLVED = "the trust region has shrunk to the radius asked for (not proved)"
    SCHEDULED = "all steps of the schedule are taken (batches prove nothing of the mean loss)"
    KINKED = "a convex combination of the gradients nearby is small, as at a kink (not proved)"
    BUDGET = "the budget is used up"
    GIVEN = "nothing was to be learned: all parameters are as they were given"
    INTERRUPTED = "interrupted"
    PLATEAU = (
        "the gradient is small because the loss hardly depends on θ here, yet it is lower far "
        "downhill: start elsewhere, e.g. from another weight"
    )
    BROKEN = "most adjoint systems broke down: use Implicit() or a more convex energy"
    WORSE = "the loss is higher than at the start: take shorter steps, or more of them"
    DIVERGED = "loss or gradient are no longer finite"


@runtime_checkable
class State(Protocol):
    """A frozen dataclass, with the evaluation at the θ reached."""

    @property
    def evaluation(self) -> Evaluation:
        """At the current θ."""
        ...

    @property
    def step(self) -> float:
        """Step size of the last step."""
        ...

    @property
    def accepted(self) -> bool:
        """Whether the last step moved θ."""
        ...

    @property
    def status(self) -> Status:
        """RUNNING until there is a reason to stop."""
        ...


S = TypeVar("S", bound=State)


class Algorithm(Typed, ABC, Generic[S]):
    """Sees nothing but the problem; knows no constraint but ``problem.space.project``."""

    @abstractmethod
    def init(self, problem: Problem, theta: Theta) -> S:
        """The state before the first step."""

    @abstractmethod
    def step(self, problem: Problem, state: S) -> S:
        """One outer step."""

    def about(self, problem: Problem) -> str:
        """What runs, in words, for reports."""
        del problem
        return type(self).__name__


@dataclass(frozen=True)
class Trial:
    """P(θ - step · direction), how far it is from θ, and the first-order change of the loss."""

    theta: Theta
    moved: float
    slope: float

    @staticmethod
    def along(
        problem: Problem, at: Evaluation, step: float, direction: Theta | None = None
    ) -> Trial:
        """The projected step along ``direction``, the gradient if None."""
        downhill = at.grad if direction is None else direction
        return Trial.to(at, problem.space.project(algebra.add(at.theta, downhill, -step)))

    @staticmethod
    def to(at: Evaluation, theta: Theta) -> Trial:
        """The step that ends at ``theta``, of the set."""
        move = algebra.add(theta, at.theta, -1.0)
        return Trial(theta, algebra.norm(move), algebra.inner(at.grad, move))


def projected_gradient_norm(problem: Problem, at: Evaluation) -> float:
    """‖θ - P(θ - s g)‖/s for the step s that moves an entry of θ by one: criticality."""
    step = normalised_step(at.grad, 1.0)
    return Trial.along(problem, at, step).moved / step


def normalised_step(direction: Theta, change: float) -> float:
    """The step size at which no entry of θ moves by more than ``change``, and one does."""
    largest = max((float(d.abs().max()) for d in direction.values() if d.numel()), default=0.0)
    return change / largest if largest > 0 and math.isfinite(largest) else 1.0


def verdict(problem: Problem, at: Evaluation, tol: float) -> Status:
    """CONVERGED or STATIONARY if the projected gradient its error are below ``tol`` · loss."""
    if not at.finite:
        return Status.DIVERGED
    if 2 * at.unsolved > at.samples:
        return Status.BROKEN
    room = tol * problem.loss.scale(at.value) - projected_gradient_norm(problem, at)
    if at.error <= room:
        return Status.CONVERGED
    return Status.STATIONARY if at.doubt <= room else Status.RUNNING


def settled(problem: Problem, at: Evaluation, tol: float) -> Evaluation:
    """``at``, with an estimate of its error if that may decide whether to stop here."""
    small = at.finite and projected_gradient_norm(problem, at) <= tol * problem.loss.scale(at.value)
    if not small or not math.isnan(at.estimate):
        return at
    return problem.value_and_grad(at.theta, tol=at.accuracy, estimate=True)
