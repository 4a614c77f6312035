"""The loop around every Krylov method: rows leave when done, and nothing is believed unchecked.

A method's recursion only estimates the residual. Here it runs in cycles: each solves for a
correction of x from the true residual, scaled to about one, and the residual is then computed
afresh. A row that falls short begins another cycle, until a cycle no longer helps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.rows import expand, put, take
from bilevel.linear.map import LinearMap
from bilevel.linear.solution import LinearSolution, LinearStatus
from bilevel.linear.system import System, norm

__all__ = ["Method", "State", "residual_drop", "solve"]

_FINAL = (LinearStatus.DIVERGED, LinearStatus.NEGATIVE_CURVATURE, LinearStatus.SINGULAR)
_PROGRESS = 0.5
_MARGIN = 0.5


@dataclass(frozen=True)
class State:
    """What the loop reads of a method's state.

    Attributes:
        x: (b, ...) correction so far.
        residual: (b,) the recursion's own residual norm.
        size: (b,) the largest ‖A v‖ / ‖v‖ met so far, a lower estimate of ‖A‖.
        status: (b,) RUNNING, or why this cycle must end.
    """

    x: Tensor
    residual: Tensor
    size: Tensor
    status: Tensor


S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class Method(Generic[S]):
    """A Krylov method for A d = r from d = 0.

    Attributes:
        init: ``(r, size)`` to the first state.
        step: ``(A, state)`` to the next state.
        gain: ``(d, r, r - A d)`` to (b,), positive where d lowered what the method minimises.
    """

    init: Callable[[Tensor, Tensor], S]
    step: Callable[[LinearMap, S], S]
    gain: Callable[[Tensor, Tensor, Tensor], Tensor]


def residual_drop(d: Tensor, r: Tensor, fresh: Tensor) -> Tensor:
    """A gain for methods that lower the residual: ‖r‖ - ‖r - A d‖."""
    del d
    return norm(r) - norm(fresh)


def solve(method: Method[S], system: System, max_steps: int) -> tuple[LinearSolution, Tensor]:
    """Solve every row of ``system`` with at most ``max_steps`` steps a row.

    Returns the solution and the lower estimate (b,) of ‖A‖ that the steps gave.
    """
    if max_steps < 0:
        raise InputError("max_steps must not be negative", given=max_steps)
    with torch.no_grad():
        return _solve(method, system, max_steps)


def _solve(method: Method[S], system: System, max_steps: int) -> tuple[LinearSolution, Tensor]:
    meter = _Meter()
    operator, b, tolerance = meter.watch(system.operator), system.b, system.tolerance
    x = torch.zeros_like(b) if system.start is None else system.start.clone()
    r = b if system.start is None else b - operator(x)
    residual = norm(r)
    steps = torch.zeros(len(b), dtype=torch.long, device=b.device)
    size = torch.zeros(len(b), dtype=b.dtype, device=b.device)
    finite = torch.isfinite(residual)
    flag = torch.where(finite, LinearStatus.RUNNING, LinearStatus.DIVERGED)
    status = _verdict(finite & (residual <= tolerance), flag, finite, steps < max_steps)
    r, goal = r[status == LinearStatus.RUNNING], tolerance
    while len(rows := torch.nonzero(status == LinearStatus.RUNNING).flatten()):
        part, before = operator.rows(rows), residual[rows]
        scale = _power_of_two(before)
        factor = expand(scale.to(b.dtype), b)
        start = method.init(r / factor, size[rows])
        target = torch.maximum(goal[rows], torch.finfo(b.dtype).eps * before) / scale
        end, taken = _cycle(method.step, part, start, target, max_steps - steps[rows])

        trial = x[rows] + factor * end.x
        fresh = b[rows] - part(trial)
        after = norm(fresh)
        finite = torch.isfinite(after)
        done = finite & (after <= tolerance[rows])
        better = finite & (done | (method.gain(end.x, r / factor, fresh / factor) > 0))
        progress = better & (after <= _PROGRESS * before)
        x[rows] = torch.where(expand(better, b), trial, x[rows])
        residual[rows] = torch.where(better, after, before)
        size[rows], steps[rows] = end.size, steps[rows] + taken
        flag = torch.where(finite, end.status, LinearStatus.DIVERGED)
        status[rows] = _verdict(done, flag, progress, steps[rows] < max_steps)
        r, goal = fresh[status[rows] == LinearStatus.RUNNING], _MARGIN * tolerance
    residual = torch.where(torch.isfinite(residual), residual, torch.inf).to(b.dtype)
    return LinearSolution(x, residual, steps, status, meter.applications), size


def _verdict(done: Tensor, flag: Tensor, progress: Tensor, steps_left: Tensor) -> Tensor:
    """The status after a cycle; a stalled cycle that still made progress is followed by another."""
    status = torch.where(progress, LinearStatus.RUNNING, LinearStatus.STALLED)
    status = torch.where(steps_left, status, LinearStatus.MAX_STEPS)
    final = torch.stack([flag == end for end in _FINAL]).any(0)
    return torch.where(done, LinearStatus.CONVERGED, torch.where(final, flag, status))


def _cycle(
    step: Callable[[LinearMap, S], S],
    operator: LinearMap,
    state: S,
    target: Tensor,
    budget: Tensor,
) -> tuple[State, Tensor]:
    """Step until each row meets its target, fails or spends its budget; done rows leave.

    Returns the last states of all rows and how many steps each took.
    """
    end = State(state.x.clone(), state.residual.clone(), state.size.clone(), state.status.clone())
    taken = torch.zeros_like(budget)
    rows = torch.arange(len(budget), device=budget.device)
    while len(rows):
        state = step(operator, state)
        taken[rows] += 1
        going = (state.status == LinearStatus.RUNNING) & (taken[rows] < budget[rows])
        going &= state.residual > target[rows]
        if not bool(going.all()):
            stay, leave = torch.nonzero(going).flatten(), torch.nonzero(~going).flatten()
            put(end, rows[leave], take(state, leave))
            rows, state, operator = rows[stay], take(state, stay), operator.rows(stay)
    return end, taken


def _power_of_two(a: Tensor) -> Tensor:
    """The power of two next above each positive value, exactly."""
    return a / torch.frexp(a).mantissa


@dataclass
class _Meter:
    """Counts the applications of the maps it watches, in rows."""

    applications: int = 0

    def watch(self, operator: LinearMap) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            image = operator(v)
            if image.shape != v.shape or image.dtype != v.dtype:
                what = f"the operator must keep shape and dtype of {tuple(v.shape)} {v.dtype}"
                raise InputError(what, given=f"{tuple(image.shape)} {image.dtype}")
            self.applications += len(v)
            return image

        return LinearMap(apply, lambda index: self.watch(operator.rows(index)), operator.inverse)
