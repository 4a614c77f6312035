"""ISGD: minibatches of implicit gradients whose accuracy grows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bilevel.ground.checks import check_choice, check_count, check_nonnegative, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, Status, Trial, normalised_step
from bilevel.learn.directions import Sampler
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.loops.moments import Moments
from bilevel.learn.problem import Problem

__all__ = ["ISGD"]


@dataclass(frozen=True)
class ISGDState(Packable):
    """Where ISGD is; ``scale`` is α_0, ``first`` is ε_0."""

    evaluation: Evaluation
    step: float
    first: float
    scale: float
    moments: Moments | None
    t: int = 0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class ISGD(Algorithm[ISGDState]):
    """Minibatches of implicit gradients whose accuracy grows.

    Inexact stochastic gradients: ε_k = ε_0 k^-p, α_k = α_0 k^-q (Salehi et al., 2024).

    arXiv 2412.12049. Each step solves the lower level for one batch. It ends by budget: a batch
    says nothing about the gradient of all samples. Each sample needs its own x.

    Args:
        batch_size: samples a step.
        step_size: α_0; None lets the first step move an entry of θ by ``first_change``.
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.
        first_change: how far the first step moves an entry of θ.
        accuracy_power: p in ε_k = ε_0 k^-p.
        step_power: q in α_k = α_0 k^-q.
        precondition: "adam" scales the entries of θ by their moments (Kingma and Ba 2015).
        seed: of the batches, which are drawn by position: the same samples in another order make
            other batches.

    Raises:
        InputError: options outside their ranges, or a problem with one x for all samples.

    Example:
        >>> ISGD(batch_size=4).step_power
        0.5
    """

    batch_size: int = 1
    step_size: float | None = None
    accuracy: Accuracy = FROM_DATA
    first_change: float = 0.1
    accuracy_power: float = 0.5
    step_power: float = 0.5
    precondition: Literal["none", "adam"] = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        check_count(self.batch_size, "batch_size")
        for name in ("step_size", "first_change"):
            value = getattr(self, name)
            if value is not None:
                check_positive(value, name)
        check_nonnegative(self.accuracy_power, "accuracy_power")
        check_nonnegative(self.step_power, "step_power")
        check_choice(self.precondition, ("none", "adam"), "precondition")

    def init(self, problem: Problem, theta: Theta) -> ISGDState:
        """The first batch, to ε_0."""
        if not problem.separable:
            advice = "use a single-loop algorithm, e.g. SABA"
            raise InputError("ISGD needs samples with an x of their own", advice=advice)
        first = self.accuracy.start(problem, theta)
        at = self._look(problem, theta, 0, first)
        adam = self.precondition == "adam"
        scale = self.step_size or self.first_change
        if self.step_size is None and not adam:
            scale = normalised_step(at.grad, self.first_change)
        moments = Moments.zeros(theta) if adam else None
        return ISGDState(at, scale, first, scale, moments, status=_status(at))

    def step(self, problem: Problem, state: ISGDState) -> ISGDState:
        """Move along the last batch's gradient, and look at the next batch."""
        at, moments, t = state.evaluation, state.moments, state.t + 1
        direction = at.grad
        if moments is not None:
            direction, moments = moments.scaled(at.grad)
        step = state.scale * t**-self.step_power
        theta = Trial.along(problem, at, step, direction).theta
        new = self._look(problem, theta, t, state.first)
        return replace(state, evaluation=new, step=step, moments=moments, t=t, status=_status(new))

    def _look(self, problem: Problem, theta: Theta, t: int, first: float) -> Evaluation:
        sampler = Sampler(len(problem), self.batch_size, self.seed, "lower")
        accuracy = self.accuracy.above(problem, first * (t + 1) ** -self.accuracy_power)
        ids = sampler.batch(sampler.number(t))
        return problem.value_and_grad(theta, tol=accuracy, ids=ids)


def _status(at: Evaluation) -> Status:
    return Status.RUNNING if at.finite else Status.DIVERGED
