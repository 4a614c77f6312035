"""Algorithm 1 of the project: projected gradient with lower-level accuracy ε_t ↘ 0."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.ground.theta import norm as theta_norm
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, Status, Trial, normalised_step, settled, verdict
from bilevel.learn.directions import Sampler
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.momentum import Momentum
from bilevel.learn.problem import Problem
from bilevel.learn.sample import Nested, Sample
from bilevel.learn.schedules import Geometric, Progress, Schedule
from bilevel.learn.search import below_model, search, sufficient_decrease

__all__ = ["ProjectedGradient"]


@dataclass(frozen=True)
class GradientState(Packable):
    """Where Algorithm 1 is; with ``momentum`` the evaluation is at the extrapolated point."""

    evaluation: Evaluation
    step: float
    first: float
    t: int = 0
    accepted: bool = True
    idle: bool = False
    """Whether the last step was within the noise of its values: no decrease can be told."""
    momentum: Momentum | None = None
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class ProjectedGradient(Algorithm[GradientState]):
    """Projected gradient with a schedule of the lower level's accuracy.

    θ_{t+1} = P_Θ(θ_t - η ĝ_t), lower level to accuracy ε_t (Pedregosa 2016, with projections).

    A batch that grows is a part of the next one, so that only its new samples are solved after a
    search; on all samples it is the method without batches (Friedlander and Schmidt 2012, "Hybrid
    deterministic-stochastic methods for data fitting"). Nothing is proved, and nothing ends but by
    budget, before it holds all of them.

    Args:
        schedule: ε_t; summable schedules give stationary limit points.
        step_size: η; None searches it (backtracking from twice the last one).
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.
        first_change: how far the first step moves an entry of θ when η is searched.
        batch_size: samples a step; None takes all.
        growth: a step has so many times the samples of the last one. At 1 batches are drawn in
            seeded epochs, need a ``step_size`` and end by budget.
        accelerated: take gradients where momentum leads to (:class:`Momentum`); values may rise.
            A searched η is one at which the loss lies below its model of curvature 1/η.
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.
        seed: of the batches.

    Raises:
        InputError: options that contradict each other.

    Example:
        >>> ProjectedGradient().schedule
        Geometric(factor=0.8)
    """

    schedule: Schedule = field(default_factory=Geometric)
    step_size: float | None = None
    accuracy: Accuracy = FROM_DATA
    first_change: float = 0.5
    batch_size: int | None = None
    tol: float = 3e-3
    seed: int = 0
    growth: float = 1.0
    accelerated: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        if not (math.isfinite(self.growth) and self.growth >= 1):
            raise InputError("growth must be at least 1", given=self.growth)
        if self.batch_size is None and self.growth > 1:
            raise InputError("growth needs a batch_size", advice="e.g. batch_size=8")
        fixed = self.step_size is not None or self.growth > 1
        if self.batch_size is not None and (self.batch_size < 1 or not fixed):
            advice = "give both, e.g. batch_size=8, step_size=10.0, or growth above 1"
            raise InputError("minibatches need batch_size >= 1 and a step_size", advice=advice)
        for name in ("step_size", "first_change", "tol"):
            value = getattr(self, name)
            if value is not None:
                check_positive(value, name)

    def init(self, problem: Problem, theta: Theta) -> GradientState:
        """Evaluate θ_0 to ε_0."""
        if self.batch_size is not None and self.batch_size > len(problem):
            what = f"batch_size must be at most the number of samples, {len(problem)}"
            raise InputError(what, given=self.batch_size)
        first = self.accuracy.start(problem, theta)
        epsilon = self.accuracy.above(problem, self.schedule.accuracy(Progress(0, first, first)))
        at = self._batch(problem, 0).value_and_grad(theta, tol=epsilon)
        step = self.step_size or normalised_step(at.grad, self.first_change)
        momentum = Momentum(theta) if self.accelerated else None
        return self._judged(problem, GradientState(at, step, first, momentum=momentum))

    def step(self, problem: Problem, state: GradientState) -> GradientState:
        """One step, with ε_{t+1} at the new θ."""
        at, seen = state.evaluation, self._batch(problem, state.t)
        if self.schedule.needs_estimate and math.isnan(at.estimate):
            at = seen.value_and_grad(at.theta, tol=at.accuracy, estimate=True)
        idle = not state.accepted or state.idle
        now = Progress(state.t + 1, state.first, at.accuracy, at.doubt, theta_norm(at.grad), idle)
        epsilon = self.accuracy.above(problem, self.schedule.accuracy(now))
        state = replace(state, evaluation=at, t=now.t)
        if self.step_size is not None:
            return self._judged(problem, self._along(problem, state, epsilon))
        if not state.accepted:
            state = self._closer(problem, state, epsilon)
            if state.status is not Status.RUNNING:
                return state
        before, state = state, self._on(seen, state, epsilon)
        at = self._nested.enlarged(problem, state.evaluation, self._size(problem, now.t))
        state = self._judged(problem, replace(state, evaluation=at))
        return self._at_floor(before, state) if at.samples == len(problem) else state

    def _at_floor(self, before: GradientState, state: GradientState) -> GradientState:
        """FLOOR after two steps without decrease at one accuracy; momentum may go uphill."""
        idle = before.idle and state.idle and state.accepted and not self.accelerated
        closer = state.evaluation.accuracy < before.evaluation.accuracy
        ended = idle and not closer and state.status is Status.RUNNING
        return replace(state, status=Status.FLOOR) if ended else state

    def _along(self, problem: Problem, state: GradientState, epsilon: float) -> GradientState:
        """By the step size given, to the next batch."""
        reached = Trial.along(problem, state.evaluation, state.step).theta
        theta, momentum = _onward(problem, state, reached)
        new = self._batch(problem, state.t).value_and_grad(theta, tol=epsilon)
        return replace(state, evaluation=new, momentum=momentum)

    def _on(self, seen: Problem, state: GradientState, epsilon: float) -> GradientState:
        """Search a step from here."""
        at, moving = state.evaluation, state.momentum is not None

        def reached(step: float) -> Theta:
            return Trial.along(seen, at, step).theta

        found = search(
            seen,
            at,
            (1.2 if moving else 2.0) * state.step,
            epsilon,
            below_model if moving else sufficient_decrease,
            direction=lambda step: Trial.to(at, _onward(seen, state, reached(step))[0]),
        )
        if found.evaluation is None:
            still = Momentum(at.theta) if moving else None
            return replace(state, accepted=False, momentum=still)
        return replace(
            state,
            evaluation=found.evaluation,
            step=found.step,
            accepted=True,
            idle=found.evaluation.corrected >= at.corrected,
            momentum=_onward(seen, state, reached(found.step))[1],
        )

    def _closer(self, problem: Problem, state: GradientState, epsilon: float) -> GradientState:
        """After a search that found none: look at θ more closely, if the schedule allows."""
        at = state.evaluation
        if epsilon < at.accuracy:
            seen = self._nested.first(problem, at.samples)
            new = seen.value_and_grad(at.theta, tol=epsilon)
            return self._judged(problem, replace(state, evaluation=new))
        return replace(state, status=Status.FLOOR) if at.samples == len(problem) else state

    def _judged(self, problem: Problem, state: GradientState) -> GradientState:
        """With the status at its evaluation; a batch says nothing of all samples."""
        at = state.evaluation
        if at.samples < len(problem):
            return replace(state, status=Status.RUNNING if at.finite else Status.DIVERGED)
        at = settled(problem, at, self.tol)
        return replace(state, evaluation=at, status=verdict(problem, at, self.tol))

    def _batch(self, problem: Problem, t: int) -> Problem:
        """The samples of step t."""
        if self.batch_size is None or self.growth > 1:
            return self._nested.first(problem, self._size(problem, t))
        sampler = Sampler(len(problem), self.batch_size, self.seed, "lower")
        return Sample(problem, sampler.batch(sampler.number(t)), blocks=1)

    def _size(self, problem: Problem, t: int) -> int:
        size = len(problem) if self.batch_size is None else self.batch_size
        while t > 0 and self.growth > 1 and size < len(problem):
            size, t = math.ceil(self.growth * size), t - 1
        return min(size, len(problem))

    @property
    def _nested(self) -> Nested:
        return Nested(self.seed, blocks=1)


def _onward(
    problem: Problem, state: GradientState, reached: Theta
) -> tuple[Theta, Momentum | None]:
    """Where the next gradient is taken after the step to ``reached``."""
    if state.momentum is None:
        return reached, None
    return state.momentum.onward(problem, state.evaluation.theta, reached)
