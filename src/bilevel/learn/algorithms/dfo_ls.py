"""DFO-LS: derivative-free least squares with a dynamic accuracy of the lower level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.extras import load
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta, add, flatten, unflatten
from bilevel.ground.theta import norm as theta_norm
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, Status
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem

__all__ = ["DFOLS"]

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class DFOLSState(Packable):
    """Where it is; ``step`` is the radius that the last run ended at, the first one before it."""

    evaluation: Evaluation
    step: float
    first: float
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class DFOLS(Algorithm[DFOLSState]):
    """Derivative-free least squares by the package DFO-LS, for a few parameters.

    Gauss-Newton on interpolated residuals in a trust region (Cartis et al. 2019).

    The residuals are the square roots of the samples' losses. As in Ehrhardt and Roberts (2021),
    the lower level is solved as accurately as the trust region is small: to ε_0 (Δ/Δ_0)², where
    interpolation needs no more. One step of learning is a run of the engine from one radius to a
    ``shrink`` of it, from the best θ of the run before; a budget that ends within a run loses it.
    Points outside Θ count as their projections. The engine sums in the order of the samples,
    whose rounding its interpolation magnifies. For few parameters: a run takes at least one
    evaluation for each of them.

    Args:
        radius: Δ_0, first radius of the trust region, in units of θ.
        last_radius: radius at which to stop.
        shrink: ratio of the radii at the end and the beginning of a run.
        evaluations: at most so many a run, for each parameter and one more.
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.

    Raises:
        InputError: options outside their ranges, or no package DFO-LS.

    Example:
        >>> DFOLS(radius=1.0).shrink
        0.1
    """

    radius: float = 0.5
    last_radius: float = 1e-3
    shrink: float = 0.1
    evaluations: int = 20
    accuracy: Accuracy = FROM_DATA

    def __post_init__(self) -> None:
        """Check the options, and that the package is there."""
        for name in ("radius", "last_radius"):
            check_positive(getattr(self, name), name)
        if not 0 < self.shrink < 1 or self.last_radius >= self.radius or self.evaluations < 2:
            what = "DFOLS needs 0 < shrink < 1, last_radius < radius and evaluations >= 2"
            raise InputError(what, given=self)
        load("dfols", "DFOLS", "search")

    def init(self, problem: Problem, theta: Theta) -> DFOLSState:
        """Look at θ_0.

        Raises:
            InputError: losses that are negative.
        """
        first = self.accuracy.start(problem, theta)
        at, losses = problem.look(theta, tol=first)
        _check(losses)
        status = Status.RUNNING if at.finite else Status.DIVERGED
        return DFOLSState(at, self.radius, first, status=status)

    def step(self, problem: Problem, state: DFOLSState) -> DFOLSState:
        """A run of the engine.

        Raises:
            InputError: losses that become negative.
        """
        begin = state.step
        end = max(self.shrink * begin, self.last_radius)
        accuracy = self.accuracy.above(problem, state.first * (end / self.radius) ** 2)
        run = _Run(problem, state.evaluation.theta, accuracy, state.evaluation.value)
        count = len(run.start)
        load("dfols", "DFOLS", "search").solve(
            run,
            run.start,
            rhobeg=begin,
            rhoend=end,
            maxfun=self.evaluations * (count + 1),
            do_logging=False,
        )
        new = run.best
        if new is None:
            return replace(state, accepted=False, status=Status.DIVERGED)
        moved = theta_norm(add(new.theta, state.evaluation.theta, -1.0)) > 0
        done = end <= self.last_radius
        status = Status.RESOLVED if done else Status.RUNNING
        return replace(state, evaluation=new, step=end, accepted=moved, status=status)


class _Run:
    """The residuals as a function of a vector; remembers the best evaluation.

    In units of ``unit``, the mean loss at the start: the engine's own tolerances are absolute.
    """

    def __init__(self, problem: Problem, theta: Theta, accuracy: float, unit: float) -> None:
        self.problem, self.theta, self.accuracy = problem, theta, accuracy
        self.unit = unit or 1.0
        self.start: Vector = flatten(theta).numpy()
        self.best: Evaluation | None = None

    def __call__(self, vector: Vector) -> Vector:
        """Residuals whose squares sum up to the mean loss, in its unit; huge at a broken point."""
        theta = unflatten(torch.from_numpy(vector.copy()), self.theta)
        new, losses = self.problem.look(self.problem.space.project(theta), tol=self.accuracy)
        if new.finite and (self.best is None or new.value < self.best.value):
            self.best = new
        _check(losses)
        residuals = (losses / (len(losses) * self.unit)).sqrt().nan_to_num(1e6, 1e6)
        return residuals.cpu().numpy()


def _check(losses: Tensor) -> None:
    if bool((losses < 0).any()):
        advice = "use the squared error"
        raise InputError("DFOLS needs losses that are not negative", advice=advice)
