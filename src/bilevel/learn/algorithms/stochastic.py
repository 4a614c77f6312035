"""Adam on batches whose accuracy follows the noise of their gradients, on a schedule of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta, add
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, Status, Trial
from bilevel.learn.directions import Sampler
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.loops.moments import Moments
from bilevel.learn.problem import Problem

__all__ = ["Stochastic"]

EVERY, FINER, LOOSER = 25, 0.5, 1.5
"""Steps between two comparisons, and by how much each changes the accuracy."""


@dataclass(frozen=True)
class StochasticState(Packable):
    """``accuracy`` is ε_t, ``mean`` that of the last θ, of so many ``averaged``."""

    evaluation: Evaluation
    step: float
    accuracy: float
    moments: Moments
    mean: Theta
    averaged: int = 0
    t: int = 0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class Stochastic(Algorithm[StochasticState]):
    """Adam on batches, for thousands of parameters and streams of samples.

    Steps by Adam's moments (Kingma and Ba 2015), whose length grows over the warm-up and then falls
    along half a cosine (Loshchilov and Hutter 2017); the last step ends at the mean of the last θ
    (Polyak and Juditsky 1992). The schedule is of steps, not of the budget, so that a fit that was
    stopped goes on as if it had not been.

    Reconstructions and adjoints are as accurate as the batch deserves: now and then a batch is
    solved four times as accurately again, and where its gradient moves by more than ``bias`` of
    what sets it apart from the mean of gradients, ε is halved; far below that it grows. Nothing is
    proved of the mean loss. Each sample needs its own x.

    Args:
        steps: of the schedule; it ends after these.
        batch_size: samples a step, all of them where there are fewer.
        rate: about how far a step moves an entry of θ where the schedule is highest.
        last: share of the rate at the end.
        warm_up: share of the steps in which the rate grows from nothing.
        average: share of the steps, at the end, of which the result is the mean.
        momentum: how much of the mean of directions a step keeps, in [0, 1).
        memory: how much of the mean of their squares a step keeps, in [0, 1).
        bias: error of gradients by inexact solves, as a share of their noise.
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.
        seed: of the batches, which are drawn by position.

    Raises:
        InputError: options outside their ranges, or a problem with one x for all samples.

    Example:
        >>> Stochastic(1000, batch_size=4).rate_at(1000) < Stochastic(1000).rate_at(500)
        True
    """

    steps: int = 1000
    batch_size: int = 8
    rate: float = 3e-3
    last: float = 0.01
    warm_up: float = 0.02
    average: float = 0.05
    momentum: float = 0.9
    memory: float = 0.99
    bias: float = 0.3
    accuracy: Accuracy = FROM_DATA
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        for name in ("steps", "batch_size"):
            check_count(getattr(self, name), name)
        for name in ("rate", "bias"):
            check_positive(getattr(self, name), name)
        for name in ("last", "warm_up", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1]", given=getattr(self, name))
        for name in ("momentum", "memory"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1)", given=getattr(self, name))

    def rate_at(self, t: int) -> float:
        """Of step ``t``, from 1 to the number of steps."""
        part = min(t / self.steps, 1.0)
        fallen = self.last + (1 - self.last) * (1 + math.cos(math.pi * part)) / 2
        return self.rate * fallen * (min(part / self.warm_up, 1.0) if self.warm_up else 1.0)

    def init(self, problem: Problem, theta: Theta) -> StochasticState:
        """The first batch, to ε_0."""
        if not problem.separable:
            advice = "use a single-loop algorithm, e.g. SABA"
            raise InputError("Stochastic needs samples with an x of their own", advice=advice)
        first = self.accuracy.start(problem, theta)
        at, rate = self._look(problem, theta, 0, first), self.rate_at(1)
        return StochasticState(at, rate, first, Moments.zeros(theta), theta, status=_of(at))

    def step(self, problem: Problem, state: StochasticState) -> StochasticState:
        """Move along the last batch's gradient, and look at the next batch."""
        at, t = state.evaluation, state.t + 1
        direction, moments = state.moments.scaled(at.grad, kept=self.momentum, memory=self.memory)
        rate = self.rate_at(t)
        theta = Trial.along(problem, at, rate, direction).theta
        mean, averaged = state.mean, state.averaged
        if t > (1 - self.average) * self.steps:
            averaged += 1
            mean = add(mean, add(theta, mean, -1.0), 1 / averaged)
        ended = t >= self.steps
        if ended and averaged:
            theta = problem.space.project(mean)
        new, accuracy = self._looked(problem, theta, t, state.accuracy, moments)
        status = _of(new)
        if ended and status is Status.RUNNING:
            status = Status.SCHEDULED
        return StochasticState(new, rate, accuracy, moments, mean, averaged, t, True, status)

    def _looked(
        self, problem: Problem, theta: Theta, t: int, accuracy: float, moments: Moments
    ) -> tuple[Evaluation, float]:
        """At batch ``t``, and the accuracy for the next one."""
        at = self._look(problem, theta, t, accuracy)
        if t % EVERY or not at.finite:
            return at, accuracy
        finer = self._look(problem, theta, t, accuracy / 4)
        if not finer.finite:
            return at, accuracy
        mean = {n: m / (1 - self.momentum**moments.count) for n, m in moments.first.items()}
        share = _distance(at.grad, finer.grad, moments) / _distance(mean, finer.grad, moments)
        if share > self.bias:
            accuracy = self.accuracy.above(problem, FINER * accuracy)
        elif share < self.bias / 4:
            accuracy = self.accuracy.below(problem, LOOSER * accuracy)
        return finer, accuracy

    def _look(self, problem: Problem, theta: Theta, t: int, accuracy: float) -> Evaluation:
        size = min(self.batch_size, len(problem))
        sampler = Sampler(len(problem), size, self.seed, "lower")
        ids = sampler.batch(sampler.number(t))
        return problem.value_and_grad(theta, tol=accuracy, ids=ids)


def _distance(one: Theta, other: Theta, moments: Moments) -> float:
    """In Adam's units, in which steps are taken."""
    parts = [
        ((one[n] - other[n]).double().square() / (v.double() + 1e-60)).sum()
        for n, v in moments.second.items()
    ]
    return float(torch.stack(parts).sum().sqrt()) + 1e-300


def _of(at: Evaluation) -> Status:
    return Status.RUNNING if at.finite else Status.DIVERGED
