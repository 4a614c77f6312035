"""What single-loop algorithms share: x, v and θ move together, one epoch is one outer step."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_choice, check_nonnegative, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import (
    Algorithm,
    Status,
    normalised_step,
    projected_gradient_norm,
    settled,
    verdict,
)
from bilevel.learn.algorithms.moments import Moments
from bilevel.learn.algorithms.pairing import Pairing
from bilevel.learn.directions import Directions, Draw, Iterates
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import BilevelProblem, Memory

__all__ = ["Now", "SingleLoop", "SingleLoopState", "everything", "running"]


@dataclass(frozen=True)
class SingleLoopState(Packable):
    """Where a single-loop algorithm is; ``t`` counts iterations, ``accuracy`` is that of checks."""

    evaluation: Evaluation
    step: float
    at: Iterates
    accuracy: float
    first: float
    """The loss at the start."""
    memory: Packable | None = None
    moments: Moments | None = None
    t: int = 0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class SingleLoop(Algorithm[SingleLoopState]):
    """θ, x and v ≈ -H⁻¹∇ℓ move at once, along directions from a batch (Dagréou et al. 2022).

    One outer step is ``iterations`` of them. Its loss and gradient are running means, about which
    nothing is proved; when they say that θ is stationary, one evaluation with errors decides.

    Where ``outer_step`` is searched, no outer step moves an entry of θ by more than
    ``first_change``. If moreover ``decay`` is zero, the step is halved when the mean direction
    turns around from one outer step to the next, or the directions alternate, and a fifth longer
    when it hardly changes.

    Args:
        batch_size: samples an iteration; the largest divisor of their number up to it is taken.
        inner_step: of x and v, in units of 1/L; None takes 1 where each sample has its own x and
            1/4 where they share it, since samples may be steeper than their mean.
        outer_step: of θ in an iteration; None lets the first ``iterations`` move an entry by
            ``first_change``.
        first_change: see above.
        decay: iteration t takes steps (1 + t/epoch)^-decay as long; those of x and v stay where
            each sample has its own.
        iterations: in an outer step; None takes an epoch of the larger level.
        precondition: "adam" scales the entries of θ by their moments (Kingma and Ba 2015); a step
            then moves each entry by up to ``outer_step``.
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.
        floor: smallest accuracy of the evaluations that decide [grey value].
        seed: of the batches.

    Raises:
        InputError: options outside their ranges, a batch larger than the samples, or an energy
            that is not smooth.
    """

    batch_size: int = 1
    inner_step: float | None = None
    outer_step: float | None = None
    first_change: float = 0.1
    decay: float = 0.0
    iterations: int | None = None
    precondition: str = "none"
    tol: float = 3e-3
    floor: float = 1e-7
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        for name in ("batch_size", "iterations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1", given=value)
        for name in ("inner_step", "outer_step", "first_change", "tol", "floor"):
            value = getattr(self, name)
            if value is not None:
                check_positive(value, name)
        check_nonnegative(self.decay, "decay")
        check_choice(self.precondition, ("none", "adam"), "precondition")

    @abstractmethod
    def advance(self, problem: BilevelProblem, now: Now) -> tuple[Directions, Packable | None]:
        """Move x and v in place; the direction of θ, and the memory for the next iteration."""

    def remember(self, problem: BilevelProblem, theta: Theta, at: Iterates) -> Packable | None:
        """The memory before the first iteration."""
        del problem, theta, at
        return None

    def init(self, problem: BilevelProblem, theta: Theta) -> SingleLoopState:
        """One loose evaluation: x, v and the scale of θ's step."""
        pairing = self.pairing(problem)
        problem.lipschitz(theta, torch.tensor([0]))
        accuracy = problem.first_accuracy(theta)
        found = problem.value_and_grad(theta, tol=accuracy)
        at = _remembered(problem, theta)
        change = self.first_change / (self.iterations or pairing.epoch)
        step = self.outer_step or change
        if self.outer_step is None and self.precondition == "none":
            step = normalised_step(found.grad, change)
        status = verdict(problem, found, self.tol)
        memory = self.remember(problem, theta, at) if status is Status.RUNNING else None
        moments = Moments.zeros(theta) if self.precondition == "adam" else None
        return SingleLoopState(
            found, step, at, accuracy, found.value, memory, moments, status=status
        )

    def step(self, problem: BilevelProblem, state: SingleLoopState) -> SingleLoopState:
        """``iterations`` of the loop; the state given is left as it was."""
        count = self.iterations or self.pairing(problem).epoch
        theta, moments = state.evaluation.theta, state.moments
        at, memory = copy.deepcopy((state.at, state.memory))
        mean = _Mean()
        for t in range(state.t, state.t + count):
            length = state.step * self.shrunk(problem, t)
            found, memory = self.advance(problem, Now(theta, at, t, memory, length))
            mean.add(found)
            if moments is None:
                direction = found.theta
            else:
                direction, moments = moments.scaled(found.theta)
            if self.outer_step is None:
                length = min(length, normalised_step(direction, self.first_change / count))
            moved = problem.space.project(algebra.add(theta, direction, -length))
            if not mean.finite or not all(bool(v.isfinite().all()) for v in moved.values()):
                lost = running(problem, theta, math.inf, found.theta)
                return replace(state, evaluation=lost, accepted=False, status=Status.DIVERGED)
            theta = moved
        new = running(problem, theta, mean.value, mean.theta)
        constant = self.outer_step is None and self.decay == 0
        factor = mean.change(state.evaluation.grad) if constant else 1.0
        moved = algebra.add(theta, state.evaluation.theta, -1.0)
        if max(float(v.abs().max()) for v in moved.values()) > 0.5 * self.first_change:
            factor = min(factor, 1.0)
        return self._checked(
            problem,
            replace(
                state,
                evaluation=new,
                step=state.step * factor,
                at=at,
                memory=memory,
                moments=moments,
                t=state.t + count,
            ),
        )

    def pairing(self, problem: BilevelProblem) -> Pairing:
        """The batches."""
        return Pairing.of(problem.counts, self.batch_size, self.seed)

    def shrunk(self, problem: BilevelProblem, t: int) -> float:
        """The factor of the steps in iteration ``t``."""
        return float((1 + t / self.pairing(problem).epoch) ** -self.decay)

    def inner(self, problem: BilevelProblem, theta: Theta, rows: Tensor, t: int) -> Tensor:
        """Steps of x and v in the rows given, (b, 1, 1, 1)."""
        factor = self.inner_step or (1.0 if problem.separable else 0.25)
        if not problem.separable:
            factor *= self.shrunk(problem, t)
        return factor / problem.lipschitz(theta, rows).view(-1, 1, 1, 1)

    def move(self, problem: BilevelProblem, now: Now, found: Directions) -> None:
        """x and v along their directions."""
        step = self.inner(problem, now.theta, found.rows, now.t).to(found.x)
        now.at.move(found.rows, step * found.x, step * found.v)

    def _checked(self, problem: BilevelProblem, state: SingleLoopState) -> SingleLoopState:
        """Whether to end, by an evaluation with errors if the running means say so.

        Not where the loss has grown: gradients are small relative to the losses of a divergence.
        """
        at, small = state.evaluation, self.tol * problem.loss.scale(state.evaluation.value)
        grown = at.value - state.first > problem.loss.scale(state.first)
        if grown or projected_gradient_norm(problem, at) > small:
            return state
        problem.memory = Memory(state.at.x.clone(), -state.at.v)
        real = settled(problem, problem.value_and_grad(at.theta, tol=state.accuracy), self.tol)
        status = verdict(problem, real, self.tol)
        accuracy = state.accuracy
        if real.finite and projected_gradient_norm(problem, real) <= small:
            accuracy = max(accuracy / 4, self.floor)
        return replace(state, evaluation=real, accuracy=accuracy, status=status)


@dataclass(frozen=True)
class Now:
    """What an iteration sees; x and v may be written."""

    theta: Theta
    at: Iterates
    t: int
    memory: Packable | None
    length: float
    """Of the step that θ is to take."""


def running(problem: BilevelProblem, theta: Theta, value: float, grad: Theta) -> Evaluation:
    """Means over an epoch, on the way to θ: no sample was looked at there, nothing is proved."""
    return Evaluation(
        theta=theta,
        accuracy=math.inf,
        value=value,
        corrected=value,
        interval=math.inf,
        interval_estimate=math.inf,
        grad=grad,
        error=math.inf,
        estimate=math.nan,
        certificate=math.inf,
        uncertified=len(problem),
        unsolved=0,
        samples=0,
    )


@dataclass
class _Mean:
    """Of the directions of θ in an outer step, and whether they alternate."""

    total: Theta = field(default_factory=dict[str, Tensor])
    last: Theta = field(default_factory=dict[str, Tensor])
    loss: float = 0.0
    count: int = 0
    turns: float = 0.0
    power: float = 0.0

    def add(self, found: Directions) -> None:
        """One iteration."""
        grad = found.theta
        self.turns += algebra.inner(grad, self.last) if self.last else 0.0
        self.power += algebra.inner(grad, grad)
        self.total = algebra.add(self.total, grad) if self.total else grad
        self.loss, self.count, self.last = self.loss + found.value, self.count + 1, grad

    @property
    def finite(self) -> bool:
        """Whether loss and directions are numbers so far."""
        return math.isfinite(self.loss) and math.isfinite(self.power)

    def change(self, before: Theta) -> float:
        """The factor of the step that the mean direction ``before`` and this one ask for."""
        now = self.theta
        both = algebra.inner(now, before)
        if both < 0 or self.turns < -0.5 * self.power:
            return 0.5
        return 1.2 if both > 0.8 * algebra.norm(now) * algebra.norm(before) else 1.0

    @property
    def value(self) -> float:
        """The mean loss."""
        return self.loss / self.count

    @property
    def theta(self) -> Theta:
        """The mean direction."""
        return {name: value / self.count for name, value in self.total.items()}


def _remembered(problem: BilevelProblem, theta: Theta) -> Iterates:
    """x and v = -q of the last evaluation."""
    memory = problem.memory
    x = problem.iterates(theta).x if memory.x is None else memory.x.clone()
    return Iterates(x, -memory.q.to(x))


def everything(problem: BilevelProblem, theta: Theta, at: Iterates) -> Directions:
    """The directions of all samples, in chunks where each has its own x."""
    lower, upper = (torch.arange(count) for count in problem.counts)
    if not problem.separable:
        return problem.directions(theta, at, Draw(lower, upper))
    chunks = (lower[k : k + problem.chunk] for k in range(0, len(lower), problem.chunk))
    parts = [problem.directions(theta, at, Draw(k, k)) for k in chunks]
    mean: Theta = {name: torch.zeros_like(value) for name, value in theta.items()}
    for part in parts:
        mean = algebra.add(mean, part.theta, len(part.rows) / len(lower))
    value = sum(part.value * len(part.rows) for part in parts) / len(lower)
    x, v, rows = (torch.cat([getattr(p, name) for p in parts]) for name in ("x", "v", "rows"))
    return Directions(x, v, mean, value, rows)
