"""DARTS as an upper-level algorithm of the library: Adam on α, momentum on the weights."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import bilevel as bl
from architecture_search.gradients import Approximation, ArchitectureGradient
from architecture_search.momentum import Momentum
from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_nonnegative, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.learn import Problem
from bilevel.learn.algorithm import Algorithm, Status
from bilevel.learn.directions import Draw, Iterates, Sampler
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.loops.moments import Moments

__all__ = ["DARTS", "DartsState"]


@dataclass(frozen=True)
class DartsState(Packable):
    """Weights and adjoint, the velocity of the weights and the moments of α.

    The evaluation names the α reached; its loss and gradient are those that led there.
    """

    evaluation: Evaluation
    at: Iterates
    velocity: Tensor
    moments: Moments
    step: float
    t: int = 0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class DARTS(Algorithm[DartsState]):
    """A step of Adam on α, then one of the network weights (arXiv:1806.09055, Algorithm 1).

    Nothing is solved, so nothing is proved: evaluations carry the loss of one minibatch.

    Args:
        approximation: of the architecture gradient.
        step_size: of Adam on α, with β = (0.5, 0.999).
        decay: weight decay of α.
        lower_step: of the network weights, with momentum; it falls to zero as a cosine.
        momentum: of the network weights.
        clip: the longest gradient of the network weights.
        horizon: steps after which ``lower_step`` is zero.
        warm_up: first steps, in which α rests.
        batch_size: samples a step at each level.
        seed: of the minibatches.

    Raises:
        InputError: an option out of range, or a problem without one x for all samples.

    Example:
        >>> from architecture_search.gradients import FirstOrder
        >>> DARTS(FirstOrder()).momentum
        0.9
    """

    approximation: Approximation
    step_size: float = 0.03
    decay: float = 1e-3
    lower_step: float = 0.05
    momentum: float = 0.9
    clip: float = 1.0
    horizon: int = 300
    warm_up: int = 0
    batch_size: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        for name in ("step_size", "horizon", "batch_size"):
            check_positive(getattr(self, name), name)
        for name in ("decay", "warm_up"):
            check_nonnegative(getattr(self, name), name)
        _ = self._lower

    def init(self, problem: Problem, theta: bl.Theta) -> DartsState:
        """At the start of the problem."""
        shared = _shared(problem)
        at = shared.iterates(theta)
        found = self.approximation(shared, theta, at, self._draw(shared, 0))
        size = min(self.batch_size, shared.upper.size)
        first = _evaluation(theta, found, size)
        return DartsState(first, at, torch.zeros_like(at.x), Moments.zeros(theta), self.step_size)

    def step(self, problem: Problem, state: DartsState) -> DartsState:
        """α first, then x, on the samples of this step."""
        shared, spent, start = _shared(problem), problem.cost.seconds, time.perf_counter()
        theta, draw = state.evaluation.theta, self._draw(shared, state.t)
        if state.t >= self.warm_up:
            found = self.look(shared, state)
            state = replace(state, at=Iterates(state.at.x, found.v))
            state, theta = self._adam(state, theta, found.theta)
            theta = shared.space.project(theta)
            state = replace(state, evaluation=_evaluation(theta, found, len(draw.outer)))
        state = self._descend(shared, state, theta, draw.inner)
        finite = bool(state.at.x.isfinite().all()) and state.evaluation.finite
        problem.cost.seconds = spent + time.perf_counter() - start
        status = Status.RUNNING if finite else Status.DIVERGED
        return replace(state, t=state.t + 1, status=status)

    def look(self, problem: bl.SharedProblem, state: DartsState) -> ArchitectureGradient:
        """The architecture gradient of the step to come."""
        draw = self._draw(problem, state.t)
        return self.approximation(problem, state.evaluation.theta, state.at, draw)

    def _adam(
        self, state: DartsState, theta: bl.Theta, grad: bl.Theta
    ) -> tuple[DartsState, bl.Theta]:
        decayed = algebra.add(grad, theta, self.decay)
        direction, moments = state.moments.scaled(decayed, kept=0.5)
        return replace(state, moments=moments), algebra.add(theta, direction, -self.step_size)

    def _descend(
        self, problem: bl.SharedProblem, state: DartsState, theta: bl.Theta, ids: Tensor
    ) -> DartsState:
        with torch.enable_grad():
            point = state.at.x.detach().requires_grad_()
            loss = problem.lower.mean(point.view(problem.shape), theta, ids)
            slope = algebra.derivative(loss, {"": point})[""]
        problem.cost.gradient_evaluations += len(ids)
        share = state.t / self.horizon
        x, velocity = self._lower.moved(state.at.x, state.velocity, slope, share)
        return replace(state, at=Iterates(x, state.at.v), velocity=velocity)

    @property
    def _lower(self) -> Momentum:
        return Momentum(self.lower_step, self.momentum, self.clip)

    def _draw(self, problem: bl.SharedProblem, t: int) -> Draw:
        parts = []
        for name, count in zip(("lower", "upper"), problem.counts, strict=True):
            sampler = Sampler(count, min(self.batch_size, count), self.seed, name)
            parts.append(sampler.batch(sampler.number(t)))
        return Draw(parts[0], parts[1])


def _shared(problem: Problem) -> bl.SharedProblem:
    if not isinstance(problem, bl.SharedProblem):
        raise InputError("DARTS needs a SharedProblem", given=type(problem).__name__)
    return problem


def _evaluation(theta: bl.Theta, found: ArchitectureGradient, samples: int) -> Evaluation:
    """What is known after one minibatch: a value and a direction, no bound."""
    return Evaluation.unproved(theta, found.value, found.theta, samples=samples)
