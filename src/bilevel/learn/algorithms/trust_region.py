"""A trust region for losses with kinks: quadratic models, and gradients nearby where these fail."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta, flatten, unflatten
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, Status, normalised_step, settled, verdict
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem
from bilevel.learn.trust import Pieces, Step, length_of, piecewise_step, quadratic_step
from bilevel.linear.quasi_newton import Pair, remembered

__all__ = ["TrustRegion"]

PATIENCE = 3
"""Rejections in a row after which kinks are thought to explain them."""
NEAR = 4.0
"""How many radii away a gradient still counts."""


Linear = tuple[Tensor, Tensor, float]
"""Place and gradient, (p,), and the loss there."""


@dataclass(frozen=True)
class TrustState(Packable):
    """``step`` is the radius; ``nearby`` are linear models of the loss, the newest last."""

    evaluation: Evaluation
    step: float
    accuracy: float
    pairs: tuple[Pair, ...] = ()
    nearby: tuple[Linear, ...] = ()
    failures: int = 0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class TrustRegion(Algorithm[TrustState]):
    """Quadratic models, then several gradients at once: for exact TV, whose loss has kinks.

    Two phases: BFGS models, then, where steps keep failing, models of several gradients.

    A step is accepted for a tenth of the decrease that its model predicts, of adjoint-corrected
    losses. Where their errors (:attr:`Evaluation.slack`) leave that open, ε is tightened instead.
    After three rejections in a row the loss is taken to have a kink: the model is then the largest
    of the linear models of all gradients met within four radii, the step goes against their
    smallest convex combination, and it ends where that is small for gradients within
    ``last_radius``.

    Source: De los Reyes and Villacís 2022, "Optimality conditions for bilevel imaging learning
    problems with total variation regularization" (two phases); Christof, De los Reyes and Meyer
    2020, "A nonsmooth trust-region method for locally Lipschitz functions". Gradients are gathered
    from the trials instead of computed from the structure of the lower level.

    Args:
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.
        first_change: how far the first step moves an entry of θ.
        last_radius: of the region within which a convex combination must be small, in θ.
        memory: curvature pairs, and gradients nearby, that are kept.
        tighten: factor of ε.
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.

    Raises:
        InputError: options outside their ranges.

    Example:
        >>> TrustRegion(last_radius=1e-2).memory
        20
    """

    accuracy: Accuracy = FROM_DATA
    first_change: float = 0.5
    last_radius: float = 1e-3
    memory: int = 20
    tighten: float = 0.25
    tol: float = 3e-3

    def __post_init__(self) -> None:
        """Check the options."""
        if self.memory < 2 or not 0 < self.tighten < 1:
            given = self.memory, self.tighten
            raise InputError("a trust region needs memory >= 2 and 0 < tighten < 1", given=given)
        for name in ("first_change", "last_radius", "tol"):
            check_positive(getattr(self, name), name)

    def init(self, problem: Problem, theta: Theta) -> TrustState:
        """Evaluate θ_0 to ε_0."""
        accuracy = self.accuracy.start(problem, theta)
        at = settled(problem, problem.value_and_grad(theta, tol=accuracy), self.tol)
        radius = _longest(at, self.first_change)
        return TrustState(at, radius, accuracy, status=verdict(problem, at, self.tol))

    def step(self, problem: Problem, state: TrustState) -> TrustState:
        """One trial, or a smaller radius where no model asks for one."""
        at, radius = state.evaluation, state.step
        if radius < 1e-3 * self.last_radius:
            return replace(state, accepted=False, status=Status.FLOOR)
        pieces = _pieces(state)
        kinked = state.failures >= PATIENCE and len(pieces.offsets) > 1
        if kinked:
            step = piecewise_step(problem, at, radius, pieces)
            if step.criticality <= self.tol * problem.loss.scale(at.value):
                return self._stationary(problem, state)
        else:
            step = quadratic_step(problem, at, radius, state.pairs)
        if step.predicted <= 0:
            return replace(state, step=radius / 4, failures=state.failures + 1, accepted=False)
        there = unflatten(flatten(at.theta) + step.move, at.theta)
        new = problem.value_and_grad(problem.space.project(there), tol=state.accuracy)
        return self._decided(problem, state, step, new, kinked=kinked)

    def _stationary(self, problem: Problem, state: TrustState) -> TrustState:
        """Look at gradients that are nearer; in the last radius, at more accurate ones, or end."""
        at = state.evaluation
        if state.step > self.last_radius:
            return replace(state, step=state.step / 4, accepted=False)
        if math.isnan(at.estimate):
            at = problem.value_and_grad(at.theta, tol=at.accuracy, estimate=True)
            state = replace(state, evaluation=at)
        allowed = self.tol * problem.loss.scale(at.value)
        if allowed < at.doubt < math.inf and not self._finest(problem, state, at):
            closer = self._closer(problem, state)
            return replace(closer, nearby=(), failures=0)
        return replace(state, accepted=False, status=Status.KINKED)

    def _explained(self, problem: Problem, state: TrustState, predicted: float) -> TrustState:
        """After some rejections: were they due to ε? Then start anew with a smaller one."""
        at = state.evaluation
        if state.failures % PATIENCE or self._finest(problem, state, at):
            return state
        closer = self._closer(problem, state)
        if abs(closer.evaluation.corrected - at.corrected) <= 0.1 * predicted:
            return closer
        return replace(closer, step=2**PATIENCE * state.step, nearby=(), failures=0)

    def _closer(self, problem: Problem, state: TrustState) -> TrustState:
        """With a smaller ε."""
        finer = self.accuracy.above(problem, self.tighten * state.accuracy)
        at = problem.value_and_grad(state.evaluation.theta, tol=finer)
        at = settled(problem, at, self.tol)
        status = verdict(problem, at, self.tol)
        return replace(state, evaluation=at, accuracy=finer, accepted=False, status=status)

    def _finest(self, problem: Problem, state: TrustState, at: Evaluation) -> bool:
        return state.accuracy <= self.accuracy.least(problem) or at.saturated

    def _decided(
        self,
        problem: Problem,
        state: TrustState,
        step: Step,
        new: Evaluation,
        *,
        kinked: bool,
    ) -> TrustState:
        """Accept, reject, or look more closely."""
        at = state.evaluation
        sound = new.finite and new.unsolved <= max(at.unsolved, at.samples // 20)
        ratio = (at.corrected - new.corrected) / step.predicted if sound else -1.0
        doubt = (at.slack + new.slack) / step.predicted if sound else 0.0
        finest = self._finest(problem, state, at) or new.saturated
        if abs(ratio - 0.1) < doubt and not finest:
            return self._closer(problem, state)
        moved = length_of(step.move)
        accepted = ratio >= 0.1
        if sound:
            state = self._remembering(state, new, left=accepted, smooth=not kinked)
        if not accepted:
            informed = (
                kinked and sound and float(flatten(new.grad) @ step.move) > -step.predicted / 2
            )
            radius = 0.8 * state.step if informed else 0.5 * min(moved, state.step)
            rejected = replace(state, step=radius, failures=state.failures + 1, accepted=False)
            return self._explained(problem, rejected, step.predicted)
        grown = ratio > 0.75 and (kinked or moved > 0.9 * state.step)
        radius = min(2 * state.step, max(state.step, _longest(new, 1.0))) if grown else state.step
        new = settled(problem, new, self.tol)
        return replace(
            state,
            evaluation=new,
            step=radius if ratio > 0.25 else moved / 2,
            failures=state.failures if kinked else 0,
            accepted=True,
            status=verdict(problem, new, self.tol),
        )

    def _remembering(
        self, state: TrustState, new: Evaluation, *, left: bool, smooth: bool
    ) -> TrustState:
        """With the model at θ if that is left, else at ``new``; with the curvature if smooth."""
        at = state.evaluation
        here, there = _linear(at), _linear(new)
        nearby = (*state.nearby, here if left else there)[-self.memory :]
        moved, change = there[0] - here[0], there[1] - here[1]
        pairs = state.pairs
        if smooth:
            pairs = remembered(pairs, (moved, change), self.memory)
        return replace(state, nearby=nearby, pairs=pairs)


def _linear(at: Evaluation) -> Linear:
    return flatten(at.theta), flatten(at.grad), at.corrected


def _pieces(state: TrustState) -> Pieces:
    """At θ, and those met nearby; a model above the loss at θ, which is not convex, is lowered."""
    here, slope, value = _linear(state.evaluation)
    slopes, offsets = [slope], [0.0]
    for place, other, loss in state.nearby:
        away = here - place
        if 0 < length_of(away) <= NEAR * state.step:
            slopes.append(other)
            offsets.append(max(value - loss - float(other @ away), 0.0))
    return Pieces(torch.stack(slopes), slope.new_tensor(offsets))


def _longest(at: Evaluation, change: float) -> float:
    """The length of the step along the gradient that moves no entry of θ by more."""
    return normalised_step(at.grad, change) * algebra.norm(at.grad)
