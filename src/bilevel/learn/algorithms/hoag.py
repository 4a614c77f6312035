"""HOAG: approximate gradients at decreasing accuracy, with a step size that adapts itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.ground.theta import norm as theta_norm
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, Status, Trial, normalised_step, settled, verdict
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem
from bilevel.learn.schedules import Polynomial, Progress, Schedule

__all__ = ["HOAG"]


@dataclass(frozen=True)
class HOAGState(Packable):
    """Where HOAG is; ``step`` is 1/L̂ and ``tightened`` the product of all cuts of ε so far."""

    evaluation: Evaluation
    step: float
    first: float
    t: int = 0
    tightened: float = 1.0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class HOAG(Algorithm[HOAGState]):
    """One evaluation a step; accuracy follows a schedule, the step size what the loss did.

    θ_{k+1} = P(θ_k - ĝ_k/L̂), lower level and adjoint to ε_k (Pedregosa 2016, Algorithm 1).

    The step size follows the author's code. With Δ = ‖θ_{k+1} - θ_k‖ and losses g_k, L̂ shrinks
    where g_{k+1} <= g_k + C ε_{k+1} + ε_k (C + 1) Δ - L̂ Δ². A step after which the loss exceeds
    ``reject`` · g_k (more than it by the same share of its scale, where losses may be negative)
    is taken back, L̂ doubled and ε halved. All other steps are taken. No search: one evaluation
    a step. As written, L̂ may shrink until steps overshoot and the loss creeps up near its minimum;
    unless ``guarded`` is False, steps after which it exceeds the sum without the last term are
    taken back too.

    Args:
        schedule: ε_k. ``Polynomial(2)``, ``Polynomial(3)`` and ``Geometric(0.9)`` are the
            quadratic, cubic and exponential decrease of the paper; summable schedules give
            stationary limit points (Theorem 2).
        step_size: the first 1/L̂; None moves an entry of θ by ``first_change``.
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.
        first_change: how far the first step moves an entry of θ.
        longest: no step moves an entry of θ by more.
        constant: C, how an error of ε changes the loss.
        guarded: take back all growth that errors do not explain; False leaves the code as it is.
        shrink: factor of L̂ after a success.
        reject: relative growth of the loss at which a step is taken back.
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.

    Raises:
        InputError: options outside their ranges.

    Example:
        >>> HOAG().schedule
        Polynomial(power=2.0)
    """

    schedule: Schedule = field(default_factory=Polynomial)
    step_size: float | None = None
    accuracy: Accuracy = FROM_DATA
    first_change: float = 0.5
    longest: float = 1.0
    constant: float = 0.25
    guarded: bool = True
    shrink: float = 0.95
    reject: float = 1.2
    tol: float = 3e-3

    def __post_init__(self) -> None:
        """Check the options."""
        if not (0 < self.shrink < 1 < self.reject):
            given = self.shrink, self.reject
            raise InputError("HOAG needs 0 < shrink < 1 < reject", given=given)
        names = ("step_size", "first_change", "longest", "constant")
        for name in (*names, "tol"):
            value = getattr(self, name)
            if value is not None:
                check_positive(value, name)

    def init(self, problem: Problem, theta: Theta) -> HOAGState:
        """Evaluate θ_0 to ε_0."""
        first = self.accuracy.start(problem, theta)
        epsilon = self.accuracy.above(problem, self.schedule.accuracy(Progress(0, first, first)))
        at = settled(problem, problem.value_and_grad(theta, tol=epsilon), self.tol)
        step = self.step_size or normalised_step(at.grad, self.first_change)
        return HOAGState(at, step, first, status=verdict(problem, at, self.tol))

    def step(self, problem: Problem, state: HOAGState) -> HOAGState:
        """One step, taken or taken back."""
        at = state.evaluation
        now = Progress(
            state.t + 1, state.first, at.accuracy, at.doubt, theta_norm(at.grad), not state.accepted
        )
        epsilon = self.accuracy.above(problem, state.tightened * self.schedule.accuracy(now))
        step = min(state.step, normalised_step(at.grad, self.longest))
        trial = Trial.along(problem, at, step)
        new = problem.value_and_grad(trial.theta, tol=epsilon)
        state = replace(state, t=now.t)
        c, moved = self.constant, trial.moved
        errors = c * new.accuracy + at.accuracy * (c + 1) * moved
        allowed = (self.reject - 1) * problem.loss.scale(at.value)
        if self.guarded:
            allowed = min(allowed, errors)
        if not new.finite or new.value > at.value + allowed:
            return self._back(problem, state, epsilon, step)
        better = new.value <= at.value + errors - moved**2 / step
        new = settled(problem, new, self.tol)
        return replace(
            state,
            evaluation=new,
            step=step / self.shrink if better else step,
            accepted=True,
            status=verdict(problem, new, self.tol),
        )

    def _back(self, problem: Problem, state: HOAGState, epsilon: float, step: float) -> HOAGState:
        """Where the step began, looked at more closely."""
        finer = self.accuracy.above(problem, epsilon / 2)
        at = settled(problem, problem.value_and_grad(state.evaluation.theta, tol=finer), self.tol)
        return replace(
            state,
            evaluation=at,
            step=step / 2,
            tightened=state.tightened / 2,
            accepted=False,
            status=verdict(problem, at, self.tol),
        )
