"""Projected L-BFGS with inexact values: for many parameters that matter very unequally."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta, flatten, unflatten
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, Status, Trial, normalised_step, settled, verdict
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem
from bilevel.learn.search import search, sufficient_decrease
from bilevel.linear.quasi_newton import Pair, quasi_newton, remembered
from bilevel.model.kinds import is_smooth

__all__ = ["LBFGS"]

FEW = 8
"""Parameters up to which the first curvature is that of Gauss and Newton."""
FIT = 0.5
"""Relative error with which the first curvature may explain a step and be kept."""


@dataclass(frozen=True)
class LBFGSState(Packable):
    """Where L-BFGS is; ``pairs`` are the last changes of θ and of the projected gradient.

    ``first`` is the inverse curvature that these change, and ``longest`` how far the next search
    may move an entry of θ.
    """

    evaluation: Evaluation
    step: float
    accuracy: float
    pairs: tuple[Pair, ...] = ()
    first: Tensor | None = None
    longest: float = 1.0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class LBFGS(Algorithm[LBFGSState]):
    """Projected L-BFGS: for many parameters that matter very unequally.

    Limited-memory BFGS on the projected gradient (Liu and Nocedal 1989, Algorithm 2.1).

    Used for bilevel learning by De los Reyes, Schönlieb and Valkonen (2016). Values are
    adjoint-corrected. The correction, first order in ε, tells when ε is too large: ε is halved
    after a step whose decrease is not five times the correction. After a search that finds no
    decrease ε is tightened and the next search goes no further than this one; after the next
    one the curvature is forgotten.

    For up to eight parameters of a smooth energy the first curvature is the Gauss-Newton matrix at
    θ_0, kept while it explains how the gradient changes.

    Args:
        memory: pairs kept.
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.
        first_change: how far a first step without curvature moves an entry of θ.
        tighten: factor of ε after a failed search.
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.

    Raises:
        InputError: options outside their ranges.

    Example:
        >>> LBFGS(memory=5).memory
        5
    """

    memory: int = 20
    accuracy: Accuracy = FROM_DATA
    first_change: float = 0.1
    tighten: float = 0.25
    tol: float = 3e-3

    def __post_init__(self) -> None:
        """Check the options."""
        if self.memory < 1 or not 0 < self.tighten < 1:
            given = self.memory, self.tighten
            raise InputError("L-BFGS needs memory >= 1 and 0 < tighten < 1", given=given)
        for name in ("first_change", "tol"):
            check_positive(getattr(self, name), name)

    def init(self, problem: Problem, theta: Theta) -> LBFGSState:
        """Evaluate θ_0 to ε_0."""
        accuracy = self.accuracy.start(problem, theta)
        at = problem.value_and_grad(theta, tol=accuracy)
        step, status = normalised_step(at.grad, self.first_change), verdict(problem, at, self.tol)
        first = first_curvature(problem, at) if status is Status.RUNNING else None
        longest = self.first_change if first is None else 1.0
        return LBFGSState(at, step, accuracy, (), first, longest, status=status)

    def step(self, problem: Problem, state: LBFGSState) -> LBFGSState:
        """Search along the quasi-Newton direction, or along the gradient without memory."""
        at = state.evaluation
        slope = projected_gradient(problem, at)
        direction = unflatten(quasi_newton(flatten(slope), state.pairs, state.first), at.theta)
        short = normalised_step(direction, 1e-3)
        if Trial.along(problem, at, short, direction).slope >= 0:
            return self._failed(problem, state)
        informed = state.first is not None or bool(state.pairs)
        found = search(
            problem,
            at,
            1.0 if informed else normalised_step(slope, state.longest),
            state.accuracy,
            sufficient_decrease,
            attempts=3 if informed else 6,
            longest=state.longest,
            direction=direction,
        )
        reach = found.step / normalised_step(direction, 1.0)
        new = found.evaluation
        finest = state.accuracy <= self.accuracy.least(problem)
        idle = finest and new is not None and new.corrected >= at.corrected
        if new is None or idle:
            return self._failed(problem, replace(state, longest=reach))
        new = settled(problem, new, self.tol)
        status = verdict(problem, new, self.tol)
        noisy = at.corrected - new.corrected < 5 * abs(new.corrected - new.value)
        accuracy = self.accuracy.above(problem, state.accuracy / 2) if noisy else state.accuracy
        pairs, first = self._learned(problem, state, new)
        longest = 1.0 if pairs else min(1.0, 2 * reach)
        return LBFGSState(new, found.step, accuracy, pairs, first, longest, status=status)

    def _learned(
        self, problem: Problem, state: LBFGSState, new: Evaluation
    ) -> tuple[tuple[Pair, ...], Tensor | None]:
        """The memory with the new pair, if that has positive curvature; ``first`` if it fits."""
        at, first = state.evaluation, state.first
        moved = flatten(new.theta) - flatten(at.theta)
        slopes = [flatten(projected_gradient(problem, e)) for e in (at, new)]
        change = slopes[1] - slopes[0]
        if first is not None and (first @ change - moved).norm() > FIT * moved.norm():
            first = None
        return remembered(state.pairs, (moved, change), self.memory), first

    def _failed(self, problem: Problem, state: LBFGSState) -> LBFGSState:
        """Look more closely; where that was of no use, forget the curvature; at the floor, end."""
        finest = state.accuracy <= self.accuracy.least(problem)
        informed = state.first is not None or bool(state.pairs)
        if informed and (finest or not state.accepted):
            return replace(state, pairs=(), first=None, accepted=False)
        if finest:
            return replace(state, accepted=False, status=Status.FLOOR)
        finer = self.accuracy.above(problem, self.tighten * state.accuracy)
        at = settled(problem, problem.value_and_grad(state.evaluation.theta, tol=finer), self.tol)
        status = verdict(problem, at, self.tol)
        return replace(state, evaluation=at, accuracy=finer, accepted=False, status=status)


def projected_gradient(problem: Problem, at: Evaluation) -> Theta:
    """(P(θ) - P(θ - s g))/s, with a step s that moves no entry by more than 1e-3.

    In float64, as float32 cannot tell θ from θ - s g where another entry is much steeper; entries
    that the set holds where they are, to the precision of θ, get 0.
    """
    step, project = normalised_step(at.grad, 1e-3), problem.space.project
    wide = {name: value.double() for name, value in at.theta.items()}
    here, there = project(wide), project(algebra.add(wide, at.grad, -step))
    short = algebra.add(at.theta, at.grad, -step)
    kept = project(short)

    def own(name: str, value: Tensor) -> Tensor:
        held = (kept[name] == value) & (short[name] != value)
        return torch.where(held, 0.0, (here[name] - there[name]) / step).to(value)

    return {name: own(name, value) for name, value in at.theta.items()}


def first_curvature(problem: Problem, at: Evaluation) -> Tensor | None:
    """Inverse of the Gauss-Newton matrix at θ, (p, p); None for many parameters, or if it is 0."""
    p = flatten(at.theta).numel()
    if p > FEW or not is_smooth(problem.level.example):
        return None
    matrix = problem.gauss_newton(at.theta, tol=at.accuracy, rtol=0.01)
    values, vectors = cast(tuple[Tensor, Tensor], torch.linalg.eigh(matrix))
    if not float(values[-1]) > 0:
        return None
    values = values.clamp(min=1e-3 * float(values[-1]))
    return ((vectors / values) @ vectors.T).to(flatten(at.theta))
