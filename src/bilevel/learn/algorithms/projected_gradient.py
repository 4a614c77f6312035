"""Algorithm 1 of the project: projected gradient with lower-level accuracy ε_t ↘ 0."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.randomness import generator
from bilevel.ground.theta import Theta
from bilevel.ground.theta import norm as theta_norm
from bilevel.learn.algorithm import Algorithm, Status, Trial, normalised_step, settled, verdict
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import BilevelProblem
from bilevel.learn.schedules import Geometric, Progress, Schedule
from bilevel.learn.search import search, sufficient_decrease

__all__ = ["ProjectedGradient"]


@dataclass(frozen=True)
class GradientState(Packable):
    """Where Algorithm 1 is."""

    evaluation: Evaluation
    step: float
    first: float
    t: int = 0
    accepted: bool = True
    idle: bool = False
    """Whether the last step was within the noise of its values: no decrease can be told."""
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class ProjectedGradient(Algorithm[GradientState]):
    """θ_{t+1} = P_Θ(θ_t - η ĝ_t), lower level to accuracy ε_t (Pedregosa 2016, with projections).

    Args:
        schedule: ε_t; summable schedules give stationary limit points.
        step_size: η; None searches it (backtracking from twice the last one).
        first_accuracy: ε_0 [grey value]; None takes 2 % of the first residual.
        first_change: how far the first step moves an entry of θ when η is searched.
        batch_size: samples a step, drawn without replacement in seeded epochs; None takes all.
            Minibatches need a ``step_size`` and end by budget only.
        floor: accuracies below are not asked for [grey value].
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.
        seed: of the minibatches.

    Raises:
        InputError: options that contradict each other.

    Example:
        >>> ProjectedGradient().schedule
        Geometric(factor=0.8)
    """

    schedule: Schedule = field(default_factory=Geometric)
    step_size: float | None = None
    first_accuracy: float | None = None
    first_change: float = 0.5
    batch_size: int | None = None
    floor: float = 1e-7
    tol: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        if self.batch_size is not None and (self.batch_size < 1 or self.step_size is None):
            advice = "give both, e.g. batch_size=8, step_size=10.0"
            raise InputError("minibatches need batch_size >= 1 and a step_size", advice=advice)
        for name in ("step_size", "first_accuracy", "first_change", "floor", "tol"):
            value = getattr(self, name)
            if value is not None:
                check_positive(value, name)

    def init(self, problem: BilevelProblem, theta: Theta) -> GradientState:
        """Evaluate θ_0 to ε_0."""
        if self.batch_size is not None and self.batch_size > len(problem):
            what = f"batch_size must be at most the number of samples, {len(problem)}"
            raise InputError(what, given=self.batch_size)
        first = self.first_accuracy or problem.first_accuracy(theta)
        epsilon = max(self.schedule.accuracy(Progress(0, first, first)), self.floor)
        at = problem.value_and_grad(theta, tol=epsilon, ids=self._batch(problem, 0))
        step = self.step_size or normalised_step(at.grad, self.first_change)
        return GradientState(at, step, first, status=self._verdict(problem, at))

    def step(self, problem: BilevelProblem, state: GradientState) -> GradientState:
        """One step, with ε_{t+1} at the new θ."""
        at = state.evaluation
        if self.schedule.needs_estimate and math.isnan(at.estimate):
            ids = self._batch(problem, state.t)
            at = problem.value_and_grad(at.theta, tol=at.accuracy, ids=ids, estimate=True)
        norm, stuck = theta_norm(at.grad), not state.accepted
        idle = stuck or state.idle
        now = Progress(state.t + 1, state.first, at.accuracy, at.doubt, norm, idle)
        epsilon = max(self.schedule.accuracy(now), self.floor)
        state = replace(state, evaluation=at, t=now.t)
        if self.step_size is not None:
            theta = Trial.along(problem, at, self.step_size).theta
            new = problem.value_and_grad(theta, tol=epsilon, ids=self._batch(problem, now.t))
            return replace(state, evaluation=new, status=self._verdict(problem, new))
        return self._closer(problem, state, epsilon) if stuck else self._on(problem, state, epsilon)

    def _on(self, problem: BilevelProblem, state: GradientState, epsilon: float) -> GradientState:
        """Search a decrease from here."""
        found = search(problem, state.evaluation, 2 * state.step, epsilon, sufficient_decrease)
        if found.evaluation is None:
            return replace(state, accepted=False)
        new, at = settled(problem, found.evaluation, self.tol), state.evaluation
        idle, status = new.corrected >= at.corrected, self._verdict(problem, new)
        if idle and state.idle and epsilon >= at.accuracy and status is Status.RUNNING:
            status = Status.FLOOR
        return replace(
            state, evaluation=new, step=found.step, accepted=True, idle=idle, status=status
        )

    def _closer(
        self, problem: BilevelProblem, state: GradientState, epsilon: float
    ) -> GradientState:
        """After a search that found none: look at θ more closely, if the schedule allows."""
        at = state.evaluation
        if epsilon >= at.accuracy:
            return replace(state, status=Status.FLOOR)
        new = settled(problem, problem.value_and_grad(at.theta, tol=epsilon), self.tol)
        state = replace(state, evaluation=new, status=self._verdict(problem, new))
        return state if state.status is not Status.RUNNING else self._on(problem, state, epsilon)

    def _verdict(self, problem: BilevelProblem, at: Evaluation) -> Status:
        if self.batch_size is None:
            return verdict(problem, at, self.tol)
        return Status.RUNNING if at.finite else Status.DIVERGED

    def _batch(self, problem: BilevelProblem, t: int) -> Tensor | None:
        if self.batch_size is None:
            return None
        batches = math.ceil(len(problem) / self.batch_size)
        epoch, position = divmod(t, batches)
        order = torch.randperm(len(problem), generator=generator(self.seed, "epoch", epoch))
        return torch.chunk(order, batches)[position]
