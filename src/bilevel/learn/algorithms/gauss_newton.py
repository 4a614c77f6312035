"""Gauss-Newton with Levenberg-Marquardt damping, for few parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta, add, flatten, unflatten
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, Status, settled, verdict
from bilevel.learn.algorithms.lbfgs import projected_gradient
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem

__all__ = ["GaussNewton"]


@dataclass(frozen=True)
class GaussNewtonState(Packable):
    """``matrix`` is the model's curvature at θ; ``step`` how far the last step moved θ."""

    evaluation: Evaluation
    matrix: Tensor
    damping: float
    accuracy: float
    step: float = 0.0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class GaussNewton(Algorithm[GaussNewtonState]):
    """Gauss-Newton with damping: the fewest steps for a few parameters of a smooth energy.

    (G + λ D) d = -g with G = mean Sᵀ∇²ℓ S, S = dx/dθ, and D = diag G (Marquardt 1963, (10)).

    G leaves out the curvature of x(θ), which matters little where the loss is small or x nearly
    linear in θ; negative curvature of ℓ is cut off. Each step costs one linear system for every
    entry of θ. λ falls where the loss decreases as its model does, and grows where it does not.
    ε is tightened where it hides the change of the loss.

    Args:
        damping: first λ, relative to the curvature.
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.
        longest: no step moves an entry of θ by more.
        tighten: factor of ε.
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.

    Raises:
        InputError: options outside their ranges.

    Example:
        >>> GaussNewton(damping=0.1).damping
        0.1
    """

    damping: float = 1e-2
    accuracy: Accuracy = FROM_DATA
    longest: float = 1.0
    tighten: float = 0.25
    tol: float = 3e-3

    def __post_init__(self) -> None:
        """Check the options."""
        if not 0 < self.tighten < 1:
            raise InputError("Gauss-Newton needs 0 < tighten < 1", given=self.tighten)
        for name in ("damping", "longest", "tol"):
            check_positive(getattr(self, name), name)

    def init(self, problem: Problem, theta: Theta) -> GaussNewtonState:
        """Evaluate θ_0 to ε_0."""
        accuracy = self.accuracy.start(problem, theta)
        at = settled(problem, problem.value_and_grad(theta, tol=accuracy), self.tol)
        matrix = positive(problem.gauss_newton(theta, tol=accuracy))
        status = verdict(problem, at, self.tol)
        return GaussNewtonState(at, matrix, self.damping, accuracy, status=status)

    def step(self, problem: Problem, state: GaussNewtonState) -> GaussNewtonState:
        """One trial; λ or ε change with it."""
        at = state.evaluation
        theta = problem.space.project(add(at.theta, self._direction(problem, state)))
        moved = flatten(add(theta, at.theta, -1.0))
        model = -float(flatten(at.grad) @ moved + 0.5 * moved @ state.matrix @ moved)
        if not model > 0:
            return self._refused(problem, state, hidden=True)
        new = problem.value_and_grad(theta, tol=state.accuracy)
        gain = at.corrected - new.corrected
        noise = at.slack + new.slack
        hidden = noise > 0.1 * model
        if not (new.finite and gain >= 1e-3 * model - 0.1 * min(noise, model)):
            return self._refused(problem, state, hidden=hidden)
        finer = self.accuracy.above(problem, self.tighten * state.accuracy)
        accuracy = finer if hidden else state.accuracy
        new = settled(problem, new, self.tol)
        status = verdict(problem, new, self.tol)
        running = status is Status.RUNNING
        curvature = problem.gauss_newton(theta, tol=state.accuracy) if running else state.matrix
        return GaussNewtonState(
            evaluation=new,
            matrix=positive(curvature),
            damping=state.damping * (0.2 if gain > 0.5 * model else 2.0),
            accuracy=accuracy,
            step=float(moved @ moved) ** 0.5,
            status=status,
        )

    def _direction(self, problem: Problem, state: GaussNewtonState) -> Theta:
        """Zero in the entries that the projection holds, shortened to ``longest``."""
        at = state.evaluation
        gradient = flatten(at.grad)
        free = flatten(projected_gradient(problem, at)) != 0
        matrix = state.matrix[free][:, free]
        scale = matrix.diagonal().clamp(min=1e-6 * float(state.matrix.diagonal().max()) + 1e-300)
        change = torch.zeros_like(gradient)
        if bool(free.any()):
            damped = matrix + state.damping * scale.diag()
            change[free] = -torch.linalg.solve(damped, gradient[free])
        largest = float(change.abs().max())
        shorter = change * (self.longest / largest) if largest > self.longest else change
        return unflatten(shorter, at.theta)

    def _refused(
        self, problem: Problem, state: GaussNewtonState, *, hidden: bool
    ) -> GaussNewtonState:
        """More accuracy where values hid the change, otherwise more damping; at the floor, end."""
        at = state.evaluation
        if not hidden or state.accuracy <= self.accuracy.least(problem):
            damping = 4 * max(state.damping, 1e-6)
            status = Status.FLOOR if damping > 1e6 else Status.RUNNING
            return replace(state, damping=damping, accepted=False, step=0.0, status=status)
        finer = self.accuracy.above(problem, self.tighten * state.accuracy)
        at = settled(problem, problem.value_and_grad(at.theta, tol=finer), self.tol)
        return replace(
            state,
            evaluation=at,
            accuracy=finer,
            accepted=False,
            step=0.0,
            status=verdict(problem, at, self.tol),
        )


def positive(matrix: Tensor) -> Tensor:
    """The nearest positive semidefinite matrix."""
    values, vectors = cast(tuple[Tensor, Tensor], torch.linalg.eigh(matrix))
    return (vectors * values.clamp(min=0.0)) @ vectors.T
