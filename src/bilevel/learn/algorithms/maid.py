"""MAID: the method of adaptive inexact descent, plain and accelerated."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_fraction, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import (
    Algorithm,
    Status,
    Trial,
    normalised_step,
    projected_gradient_norm,
    verdict,
)
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem
from bilevel.learn.search import search

__all__ = ["MAID"]


@dataclass(frozen=True)
class MAIDState(Packable):
    """Where MAID is; ``known`` is the last evaluation whose error was estimated.

    ``previous``, ``reference`` and its ``mass`` serve the accelerated variant.
    """

    evaluation: Evaluation
    step: float
    accuracy: float
    reference: float
    previous: Evaluation | None = None
    known: Evaluation | None = None
    mass: float = 1.0
    failures: int = 0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class MAID(Algorithm[MAIDState]):
    """Adaptive inexact descent: accuracy and step size are found on the way.

    Accuracy and step size found on the way (Salehi, Mukherjee, Roberts, Ehrhardt 2024).

    Each outer step tightens ε until the error of the hypergradient is at most (1 - ``eta``) of
    its norm, then backtracks until the largest value that the loss can have at the new point is
    below the smallest that it can have here (arXiv 2308.10098, Algorithm 3.1). Values are
    adjoint-corrected, so their intervals are second order in ε. Success relaxes ε and the step,
    failure tightens ε.

    Proved errors are often orders of magnitude too large. Unless ``certified``, an estimate of
    the gradient's error serves where the bound does not suffice, and the size of the adjoint
    correction where it is smaller than the proved interval; the history keeps the bounds apart.

    Args:
        certified: rely on proved bounds alone, at the price of very accurate lower-level solves.
        accelerated: Barzilai-Borwein first steps and the non-monotone reference value of Zhang
            and Hager (2004); usually two to three times fewer lower-level steps.
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`; where the loss
            proves no interval, θ is then known to about the root of the floor, and MAID ends
            there as FLOOR.
        first_change: how far the first step moves θ.
        tol: stop when the projected gradient and its proved error are below ``tol`` times the loss.
        shrink: ρ, factor of the step in a search.
        grow: ρ̄, factor of the step after a success at the first try.
        tighten: ν, factor of ε when it is too large.
        relax: ν̄, factor of ε after a success.
        eta: η; the error of the gradient may be 1 - η of its norm.
        decrease: λ, of the sufficient decrease; less than η.
        memory: of the non-monotone reference value; ``certified`` is always monotone.

    Raises:
        InputError: factors outside their ranges; ``certified``, with a loss or an energy of which
            no error is proved.

    Example:
        >>> MAID(accelerated=True).tighten
        0.5
    """

    accelerated: bool = False
    certified: bool = False
    accuracy: Accuracy = FROM_DATA
    first_change: float = 0.5
    tol: float = 3e-3
    shrink: float = 0.5
    grow: float = 1.5
    tighten: float = 0.5
    relax: float = 1.1
    eta: float = 0.5
    decrease: float = 0.1
    memory: float = 0.2

    def __post_init__(self) -> None:
        """0 < ρ < 1 < ρ̄, 0 < ν < 1 < ν̄, 0 < λ < η < 1."""
        for name in ("shrink", "tighten", "eta", "decrease"):
            check_fraction(getattr(self, name), name)
        for name in ("tol", "first_change"):
            check_positive(getattr(self, name), name)
        for name in ("grow", "relax"):
            if not getattr(self, name) > 1:
                raise InputError(f"{name} must exceed 1", given=getattr(self, name))
        if not self.decrease < self.eta:
            given = self.decrease
            raise InputError(f"decrease must be less than eta = {self.eta}", given=given)
        if not 0 <= self.memory < 1:
            raise InputError("memory must lie in [0, 1)", given=self.memory)

    def init(self, problem: Problem, theta: Theta) -> MAIDState:
        """Evaluate θ_0 to ε_0."""
        accuracy = self.accuracy.start(problem, theta)
        at = self._trusted(problem, problem.value_and_grad(theta, tol=accuracy), None)
        if self.certified and at.finite and not at.proved:
            what = "certified steps need proved errors, and none are of this loss or energy"
            advice = "leave out certified: estimates serve then"
            raise InputError(what, given=f"an error of at most {at.error}", advice=advice)
        step = normalised_step(at.grad, self.first_change)
        status = verdict(problem, at, self.tol)
        known = None if math.isnan(at.estimate) else at
        return MAIDState(at, step, at.accuracy, at.corrected, known=known, status=status)

    def step(self, problem: Problem, state: MAIDState) -> MAIDState:
        """Search at the present accuracy; on failure tighten it."""
        at = self._trusted(problem, state.evaluation, state.known)
        state = replace(state, known=state.known if math.isnan(at.estimate) else at)
        status = verdict(problem, at, self.tol)
        if status is not Status.RUNNING:
            return replace(state, evaluation=at, status=status, accepted=False)
        accuracy = min(state.accuracy, at.accuracy)
        first = self._first_step(at, state)
        found = search(
            problem,
            at,
            first,
            accuracy,
            lambda here, trial, new, step: self._accept(here, trial, new, step, state.reference),
            shrink=self.shrink,
            attempts=min(4 + state.failures, 10),
        )
        if found.evaluation is None:
            return self._failed(problem, state, at, accuracy, first)
        return self._moved(problem, state, at, found.evaluation, found.step, found.tries)

    def _moved(
        self,
        problem: Problem,
        state: MAIDState,
        at: Evaluation,
        new: Evaluation,
        step: float,
        tries: int,
    ) -> MAIDState:
        mass = self.memory * state.mass + 1 if self.accelerated else 1.0
        reference = (state.reference * (mass - 1) + new.corrected) / mass
        return MAIDState(
            evaluation=new,
            step=step * (self.grow if tries == 1 else 1.0),
            accuracy=self.accuracy.below(problem, self.relax * new.accuracy),
            previous=at,
            reference=reference,
            mass=mass,
            known=state.known,
            status=verdict(problem, new, self.tol),
        )

    def _failed(
        self,
        problem: Problem,
        state: MAIDState,
        at: Evaluation,
        accuracy: float,
        step: float,
    ) -> MAIDState:
        """Tighten ε; where that is of no use, try shorter steps; where that was, end."""
        finest = accuracy <= self.accuracy.least(problem) or at.saturated
        finer = accuracy if finest else self.accuracy.above(problem, self.tighten * accuracy)
        stuck = finest and not state.accepted
        return replace(
            state,
            evaluation=at if finest else problem.value_and_grad(at.theta, tol=finer),
            step=step * self.shrink**4 if finest else step,
            accuracy=finer,
            previous=None,
            reference=at.corrected,
            mass=1.0,
            failures=state.failures + 1,
            accepted=False,
            status=Status.FLOOR if stuck else Status.RUNNING,
        )

    def _trusted(self, problem: Problem, at: Evaluation, known: Evaluation | None) -> Evaluation:
        """Tighten ε until the gradient's error is at most (1 - η) of its norm, or cannot be."""
        while self._doubtful(problem, at, known):
            if math.isnan(at.estimate) and not self.certified:
                accuracy = at.accuracy
            elif at.accuracy > self.accuracy.least(problem) and not at.saturated:
                accuracy = self.accuracy.above(problem, self.tighten * at.accuracy)
            else:
                break
            at = problem.value_and_grad(at.theta, tol=accuracy, estimate=not self.certified)
        return at

    def _doubtful(self, problem: Problem, at: Evaluation, known: Evaluation | None) -> bool:
        if verdict(problem, at, self.tol) is not Status.RUNNING:
            return False
        norm = projected_gradient_norm(problem, at)
        may_end = norm <= self.tol * problem.loss.scale(at.value)
        doubt = at.doubt if known is None or may_end else min(at.doubt, _expected(at, known))
        return doubt > (1 - self.eta) * norm

    def _first_step(self, at: Evaluation, state: MAIDState) -> float:
        if not self.accelerated or state.previous is None:
            return state.step
        moved = algebra.add(at.theta, state.previous.theta, -1.0)
        bend = algebra.inner(moved, algebra.add(at.grad, state.previous.grad, -1.0))
        length = algebra.inner(moved, moved)
        return length / bend if bend > length / (10 * state.step) else 2 * state.step

    def _accept(
        self, at: Evaluation, trial: Trial, new: Evaluation, step: float, reference: float
    ) -> bool:
        """U⁺ at the new point <= U⁻ here (or the reference value) less the sufficient decrease."""
        lenient = self.accelerated and not self.certified
        here = max(at.corrected, reference) if lenient else at.corrected
        doubt = self._slack(at) + self._slack(new)
        return new.corrected + doubt <= here - self.decrease * trial.moved**2 / step

    def _slack(self, at: Evaluation) -> float:
        return at.interval if self.certified else at.slack


def _expected(at: Evaluation, known: Evaluation) -> float:
    """The error to expect from the last estimate, which scales with ε; three times to be safe."""
    if not math.isnan(at.estimate):
        return at.estimate
    return 3 * known.estimate * at.accuracy / known.accuracy
