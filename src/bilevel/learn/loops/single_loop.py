"""What single-loop algorithms share: x, v and θ move together, one epoch is one outer step."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_choice, check_count, check_nonnegative, check_positive
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import (
    Algorithm,
    Status,
    normalised_step,
    projected_gradient_norm,
    settled,
    verdict,
)
from bilevel.learn.directions import Directions, Iterates, Pairing
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.loops.following import lag
from bilevel.learn.loops.mean import Mean, Turn
from bilevel.learn.loops.moments import Moments
from bilevel.learn.problem import DirectedProblem, Problem, directed

__all__ = ["Now", "SingleLoop", "SingleLoopState", "running"]

_LAG = 0.2
"""The largest lag at which θ takes its whole step."""
_PATIENCE = 10
"""How many outer steps θ waits for x and v before the end."""


@dataclass(frozen=True)
class SingleLoopState(Packable):
    """Where a single-loop algorithm is; ``t`` counts iterations, ``accuracy`` is that of checks."""

    evaluation: Evaluation
    step: float
    at: Iterates
    accuracy: float
    first: float
    """The loss at the start."""
    reach: float
    """How far an outer step may move an entry of θ, where the step is searched."""
    centre: Theta
    """The mean θ of the last outer step."""
    good: Evaluation
    """Where the running loss was least: at the start of that outer step."""
    memory: Packable | None = None
    moments: Moments | None = None
    t: int = 0
    waited: int = 0
    """Outer steps that θ waited for x and v, up to the last."""
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class SingleLoop(Algorithm[SingleLoopState]):
    """θ, x and v ≈ -H⁻¹∇ℓ move at once, along directions from a batch (Dagréou et al. 2022).

    One outer step is ``iterations`` of them. Its loss and gradient are running means, about which
    nothing is proved; when they say that θ is stationary, one evaluation with errors decides.

    Where each sample has its own x, D_x and D_v are exact for the samples drawn and tell how far x
    and v are behind: θ takes min(1, 0.2/r) of its step, and waits where r >= 1. Here r is the
    larger of |⟨v, D_x⟩|, what x has still to change the loss by, relative to it, and of ‖D_v‖
    relative to its value at v = 0. So θ does not run away from x and v, however far from the
    solution it starts and however badly the lower level is conditioned; after ten outer steps of
    waiting the fit ends as FLOOR. A divergence ends with the θ of the least running loss.

    Where ``outer_step`` is searched, no entry of θ moves by more than ``first_change`` in the first
    outer step. If moreover ``decay`` is zero, this limit is doubled where it was hit and the mean
    direction hardly changed, and halved where it turned around or the directions alternate. So is
    the step; but where the mean directions of two outer steps show a positive curvature, it is what
    makes two Newton steps of an outer step, by the secant of Barzilai and Borwein (1988).

    Args:
        batch_size: samples an iteration; the largest divisor of their number up to it is taken.
        inner_step: of x and v, in units of 1/L; None takes 1 where each sample has its own x and
            1/4 where they share it, since samples may be steeper than their mean.
        outer_step: of θ in an iteration; None lets the first ``iterations`` move an entry by
            ``first_change``.
        first_change: how far the first outer step moves an entry of θ; None takes 1/2 where each
            sample has its own x, otherwise 1/10.
        decay: iteration t takes steps (1 + t/epoch)^-decay as long; those of x and v stay where
            each sample has its own.
        iterations: in an outer step; None takes an epoch of the larger level.
        precondition: "adam" scales the entries of θ by their moments (Kingma and Ba 2015); a step
            then moves each entry by up to ``outer_step``.
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.
        accuracy: of the evaluation at the start, and the floor of those that decide.
        seed: of the batches, which are drawn by position: the same samples in another order make
            other batches.

    Raises:
        InputError: options outside their ranges, a batch larger than the samples, or an energy
            that is not smooth.
    """

    batch_size: int = 1
    inner_step: float | None = None
    outer_step: float | None = None
    first_change: float | None = None
    decay: float = 0.0
    iterations: int | None = None
    precondition: Literal["none", "adam"] = "none"
    tol: float = 3e-3
    accuracy: Accuracy = FROM_DATA
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        for name in ("batch_size", "iterations"):
            check_count(getattr(self, name), name)
        for name in ("inner_step", "outer_step", "first_change", "tol"):
            value = getattr(self, name)
            if value is not None:
                check_positive(value, name)
        check_nonnegative(self.decay, "decay")
        check_choice(self.precondition, ("none", "adam"), "precondition")

    @abstractmethod
    def advance(self, problem: DirectedProblem, now: Now) -> tuple[Directions, Packable | None]:
        """Move x and v in place; the direction of θ, and the memory for the next iteration."""

    def remember(self, problem: DirectedProblem, theta: Theta, at: Iterates) -> Packable | None:
        """The memory before the first iteration."""
        del problem, theta, at
        return None

    def first(self, problem: DirectedProblem) -> Tensor | None:
        """The samples evaluated at the start, all if None."""
        del problem

    def init(self, problem: Problem, theta: Theta) -> SingleLoopState:
        """One loose evaluation: the scale of θ's step."""
        problem = directed(problem)
        self.pairing(problem)
        problem.lipschitz(theta, torch.tensor([0]))
        accuracy = self.accuracy.start(problem, theta)
        found = problem.value_and_grad(theta, tol=accuracy, ids=self.first(problem))
        status = verdict(problem, found, self.tol)
        if found.finite and status is not Status.RUNNING:
            found = problem.value_and_grad(theta, tol=accuracy)
            status = verdict(problem, found, self.tol)
        at, reach = _remembered(problem), self._first_change(problem)
        step = self.outer_step or reach / self._count(problem)
        if self.outer_step is None and self.precondition == "none":
            step = normalised_step(found.grad, step)
        memory = self.remember(problem, theta, at) if status is Status.RUNNING else None
        moments = Moments.zeros(theta) if self.precondition == "adam" else None
        return SingleLoopState(
            evaluation=found,
            step=step,
            at=at,
            accuracy=accuracy,
            first=found.value,
            reach=reach,
            centre=theta,
            good=found,
            memory=memory,
            moments=moments,
            status=status,
        )

    def step(self, problem: Problem, state: SingleLoopState) -> SingleLoopState:
        """``iterations`` of the loop; the state given is left as it was."""
        problem = directed(problem)
        count = self._count(problem)
        theta, moments = state.evaluation.theta, state.moments
        at, memory = copy.deepcopy((state.at, state.memory))
        mean = Mean()
        for t in range(state.t, state.t + count):
            length = state.step * self.shrunk(problem, t)
            found, memory = self.advance(problem, Now(theta, at, t, memory, length))
            mean.add(theta, found)
            if not mean.finite:
                break
            if found.trust == 0:
                continue
            direction = found.theta
            if moments is not None:
                direction, moments = moments.scaled(direction)
            if self.outer_step is None:
                length = min(length, normalised_step(direction, state.reach / count))
            theta = problem.space.project(algebra.add(theta, direction, -found.trust * length))
        if not mean.finite or not all(bool(v.isfinite().all()) for v in theta.values()):
            return replace(state, evaluation=state.good, accepted=False, status=Status.DIVERGED)
        start, moved = state.evaluation.theta, _largest(theta, state.evaluation.theta)
        good = running(problem, start, mean.value, mean.theta)
        state = replace(
            self._paced(state, moved, mean),
            evaluation=running(problem, theta, mean.value, mean.theta),
            at=at,
            good=good if state.t == 0 or mean.value < state.good.value else state.good,
            memory=memory,
            moments=moments,
            t=state.t + count,
            waited=state.waited + 1 if self._waits(problem, moved, mean) else 0,
            accepted=mean.trust > 0,
        )
        if state.waited >= _PATIENCE:
            return replace(state, status=Status.FLOOR)
        return self._checked(problem, state) if mean.trust > 0 else state

    def _waits(self, problem: DirectedProblem, moved: float, mean: Mean) -> bool:
        """Whether θ has hardly moved because it was hardly trusted."""
        return mean.trust < 0.25 and moved < 0.05 * self._first_change(problem)

    def _paced(self, state: SingleLoopState, moved: float, mean: Mean) -> SingleLoopState:
        """With the step and the reach of the next outer step."""
        if self.outer_step is not None or self.decay > 0:
            return state
        turn = mean.turn(state.evaluation.grad)
        far = moved > 0.5 * state.reach
        step, reach = state.step, state.reach
        if turn is Turn.BACK:
            step, reach = step / 2, reach / 2
        elif turn is Turn.STRAIGHT and far:
            step, reach = step * 2, reach * 2
        elif turn is Turn.STRAIGHT and mean.trust > 0.5:
            step *= 1.2
        newton = mean.newton(state.centre, state.evaluation.grad)
        if newton > 0 and self.precondition == "none":
            step = min(max(min(0.5, 2 / mean.count) * newton, state.step / 2), 4 * state.step)
        return replace(state, step=step, reach=reach, centre=mean.centre)

    def pairing(self, problem: DirectedProblem) -> Pairing:
        """The batches."""
        return Pairing.of(problem.counts, self.batch_size, self.seed)

    def _count(self, problem: DirectedProblem) -> int:
        return self.iterations or self.pairing(problem).epoch

    def _first_change(self, problem: DirectedProblem) -> float:
        return self.first_change or (0.5 if problem.separable else 0.1)

    def shrunk(self, problem: DirectedProblem, t: int) -> float:
        """The factor of the steps in iteration ``t``."""
        return float((1 + t / self.pairing(problem).epoch) ** -self.decay)

    def inner(self, problem: DirectedProblem, theta: Theta, rows: Tensor, t: int) -> Tensor:
        """Steps of x and v in the rows given, (b, 1, 1, 1)."""
        factor = self.factor(problem, t)
        return factor / problem.lipschitz(theta, rows).view(-1, 1, 1, 1)

    def factor(self, problem: DirectedProblem, t: int) -> float:
        """Of steps of x and v, in units of 1/L."""
        if problem.separable:
            return self.inner_step or 1.0
        return (self.inner_step or 0.25) * self.shrunk(problem, t)

    def trusted(self, problem: DirectedProblem, now: Now, found: Directions) -> Directions:
        """With the trust that x and v deserve, before they move along ``found``."""
        if not problem.separable:
            return found
        behind = lag(problem, now.theta, now.at, found)
        return replace(found, trust=min(1.0, _LAG / behind) if behind < 1 else 0.0)

    def move(self, problem: DirectedProblem, now: Now, found: Directions) -> None:
        """x and v along their directions."""
        step = self.inner(problem, now.theta, found.rows, now.t).to(found.x)
        now.at.move(found.rows, step * found.x, step * found.v)

    def _checked(self, problem: DirectedProblem, state: SingleLoopState) -> SingleLoopState:
        """Whether to end, by an evaluation with errors if the running means say so.

        Not where the loss has grown: gradients are small relative to the losses of a divergence.
        """
        now, small = state.evaluation, self.tol * problem.loss.scale(state.evaluation.value)
        grown = now.value - state.first > problem.loss.scale(state.first)
        if grown or projected_gradient_norm(problem, now) > small:
            return state
        _remember(problem, state.at)
        real = settled(problem, problem.value_and_grad(now.theta, tol=state.accuracy), self.tol)
        status = verdict(problem, real, self.tol)
        accuracy = state.accuracy
        if real.finite and projected_gradient_norm(problem, real) <= small:
            accuracy = self.accuracy.above(problem, accuracy / 4)
        at = _remembered(problem)
        return replace(
            state, evaluation=real, centre=real.theta, at=at, accuracy=accuracy, status=status
        )


@dataclass(frozen=True)
class Now:
    """What an iteration sees; x and v may be written."""

    theta: Theta
    at: Iterates
    t: int
    memory: Packable | None
    length: float
    """Of the step that θ is to take."""


def running(problem: DirectedProblem, theta: Theta, value: float, grad: Theta) -> Evaluation:
    """Means over an epoch, on the way to θ: no sample was looked at there, nothing is proved."""
    return Evaluation.unproved(theta, value, grad, uncertified=len(problem))


def _largest(theta: Theta, last: Theta) -> float:
    """The largest change of an entry."""
    return max(float((theta[name] - last[name]).abs().max()) for name in theta)


def _remembered(problem: DirectedProblem) -> Iterates:
    """x and v = -q of the last evaluation."""
    return Iterates(problem.level.x.whole(), -problem.level.q.whole())


def _remember(problem: DirectedProblem, at: Iterates) -> None:
    """The inverse: the next evaluation starts there."""
    rows = torch.arange(len(at.x))
    problem.level.x.write(rows, at.x)
    problem.level.q.write(rows, -at.v)
