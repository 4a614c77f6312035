"""THE loop of the lower level: steps, certificates, and rows that leave when they are done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.model.kinds import required
from bilevel.model.objective import Objective
from bilevel.solve.certificate import Certificate, Claim, Tolerance, certify
from bilevel.solve.finer import finer
from bilevel.solve.solution import Solution, Status
from bilevel.solve.solver import S, Solver

__all__ = ["minimise"]

PATIENCE = 1000  # steps without progress before a row is called stalled (convex or unknown)
PATIENCE_AT_FLOOR = 30  # the same for a row whose gradient is at the level of rounding
PATIENCE_BEFORE_FLOAT64 = 5  # and for a row that goes on in float64
PATIENCE_OF_IMAGES = 200  # the same of wider states, whose images ask for less than that level


def minimise(
    objective: Objective,
    solver: Solver[S],
    x0: Tensor | None = None,
    *,
    tol: Tolerance,
    max_steps: int = 20_000,
    check_every: int | None = None,
    keep_state: bool = False,
) -> Solution:
    """Minimise every row of ``objective`` until its certificate meets ``tol``.

    Every ``check_every`` steps the certificate is computed afresh at the current point; rows
    that meet the tolerance leave the batch. Memory does not grow with the number of steps, and
    no gradient tape is recorded. Where rounding in float32 hides how near the image of a wider
    state is, those rows go on in float64. The certificate belongs to the returned point,
    whatever its status.

    Args:
        objective: from ``energy.at(y)``.
        solver: e.g. ``solvers.Nesterov()``.
        x0: start, (b, c, h, w); the objective's own if None.
        tol: which accuracy to reach.
        max_steps: limit for each row.
        check_every: steps between certificates; what suits the solver if None.
        keep_state: hand on the solver's last state, e.g. for the curvature that L-BFGS learned.

    Raises:
        InputError: an objective that the solver does not take, ``x0`` that does not fit or is not
            finite, limits that are not positive.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> solution = bl.minimise(
        ...     energy.at(torch.ones(1, 1, 4, 4)), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-4)
        ... )
        >>> abs(solution.require().x[0, 0, 0, 0].item() - 0.5) < 1e-4
        True
    """
    objective = required(objective, solver.takes, type(solver).__name__)
    check_every = solver.check_every if check_every is None else check_every
    if max_steps < 0 or check_every < 1:
        limits = max_steps, check_every
        raise InputError("max_steps must be >= 0 and check_every >= 1", given=limits)
    start = objective.start()
    with torch.no_grad(), torch.autocast(start.device.type, enabled=False):
        x = start.clone() if x0 is None else _checked_start(x0, start)
        x = objective.project(x)
        found = _minimise(objective, solver, x, tol, max_steps, check_every, keep_state)

        def on(double: Objective, x: Tensor, inner: Tolerance) -> Solution:
            left = max_steps - int(found.steps.max())
            return _minimise(double, solver, x, inner, left, check_every, False)

        return finer(objective, found, on)


def _checked_start(x0: Tensor, like: Tensor) -> Tensor:
    if x0.shape != like.shape or x0.dtype != like.dtype or x0.device != like.device:
        expected = f"x0 must be {like.dtype} {tuple(like.shape)} on {like.device}"
        raise InputError(expected, given=f"{x0.dtype} {tuple(x0.shape)} on {x0.device}")
    return check_finite(x0, "x0").detach().clone()


def _minimise(
    objective: Objective,
    solver: Solver[S],
    x: Tensor,
    tol: Tolerance,
    max_steps: int,
    check_every: int,
    keep_state: bool,
) -> Solution:
    state = solver.init(objective, x)
    kept = rows.take(state, torch.arange(len(x), device=x.device)) if keep_state else None
    certificate = certify(objective, x, tol, solver.gradient(state), solver.dual(state))
    progress = _Progress(certificate, tol)
    steps_taken = torch.zeros_like(progress.status)
    solution = Solution(x, certificate, progress.status.clone(), steps_taken, tol, kept)
    left = torch.nonzero(progress.status == Status.RUNNING).flatten()
    if not len(left):
        return solution
    if len(left) < len(x):
        objective = objective.rows(left)
        progress.keep(left)
        state = rows.take(state, left)
    done, last = 0, _Look(state.x.clone(), rows.take(certificate, left))
    while len(left) and done < max_steps:
        steps = min(check_every, max_steps - done)
        for _ in range(steps):
            state = solver.step(objective, state)
        done += steps
        certificate = certify(objective, state.x, tol, solver.gradient(state), solver.dual(state))
        progress.update(certificate, tol, steps, solver.stuck(state))
        now = _Look(state.x.clone(), certificate)
        leaving = progress.status != Status.RUNNING
        if done >= max_steps or bool(leaving.any()):
            index = torch.nonzero(leaving | (done >= max_steps)).flatten()
            _record(solution, left, index, progress.status, done, now, last)
            if kept is not None:
                rows.put(kept, left[index], rows.take(state, index))
            running = torch.nonzero(~leaving).flatten()
            left, objective = left[running], objective.rows(running)
            state, now = cast(tuple[S, _Look], rows.take((state, now), running))
            progress.keep(running)
        last = now
    solution.status[left] = Status.MAX_STEPS
    return solution


@dataclass(frozen=True)
class _Look:
    """Where the rows were when they were looked at; x is a copy."""

    x: Tensor
    certificate: Certificate


def _record(
    solution: Solution,
    left: Tensor,
    index: Tensor,
    status: Tensor,
    done: int,
    now: _Look,
    last: _Look,
) -> None:
    """Write the rows ``index`` of those left; a diverged row keeps its last finite point."""
    solution.status[left[index]], solution.steps[left[index]] = status[index], done
    gone = status[index] == Status.DIVERGED
    for look, some in ((now, index[~gone]), (last, index[gone])):
        if len(some):
            solution.x[left[some]] = look.x[some]
            rows.put(solution.certificate, left[some], rows.take(look.certificate, some))


class _Progress:
    """Which rows go on: they are neither done, nor stuck, nor infinite."""

    def __init__(self, certificate: Certificate, tol: Tolerance) -> None:
        self.best = torch.full_like(certificate.residual, torch.inf)
        self.gap = torch.full_like(certificate.gap, torch.inf)
        self.idle = torch.zeros_like(certificate.residual, dtype=torch.int64)
        self.update(certificate, tol)

    def update(
        self,
        certificate: Certificate,
        tol: Tolerance,
        steps: int = 0,
        stuck: Tensor | None = None,
    ) -> None:
        """Status of every row from its certificate after ``steps`` more steps."""
        residual = certificate.computed
        better = (residual < 0.99 * self.best) | (certificate.gap < 0.99 * self.gap)
        self.idle = torch.where(better, 0, self.idle + steps)
        self.best = torch.minimum(self.best, residual)
        self.gap = torch.minimum(self.gap, certificate.gap)
        passing = (certificate.claim == Claim.STATIONARY) & certificate.allowance.isfinite()
        patience = torch.where(passing, torch.inf, PATIENCE)
        image, of_images = certificate.claim == Claim.IMAGE, _of_images(certificate, tol)
        least = torch.where(image, of_images, PATIENCE_AT_FLOOR)
        patience = torch.where(certificate.at_floor(), least, patience)
        status = torch.full_like(self.idle, Status.RUNNING)
        status[self.idle >= patience] = Status.STALLED
        if stuck is not None:
            status[stuck] = Status.STALLED
        status[certificate.meets(tol)] = Status.CONVERGED
        status[~torch.isfinite(residual)] = Status.DIVERGED
        self.status = status

    def keep(self, index: Tensor) -> None:
        """Forget the rows that left."""
        self.best, self.gap = self.best[index], self.gap[index]
        self.idle, self.status = self.idle[index], self.status[index]


def _of_images(certificate: Certificate, tol: Tolerance) -> int:
    """Patience at the floor with the images of wider states, unless float64 goes on from there."""
    float32 = certificate.gradient.dtype == torch.float32
    return PATIENCE_BEFORE_FLOAT64 if float32 and math.isinf(tol.residual) else PATIENCE_OF_IMAGES
