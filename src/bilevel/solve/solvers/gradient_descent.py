"""Gradient descent, the simplest solver, with the best constant step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solver import Solver, curvature_range

__all__ = ["GradientDescent"]


@dataclass(frozen=True)
class DescentState:
    """Point and step size of each row."""

    x: Tensor
    step: Tensor


@dataclass(frozen=True)
class GradientDescent(Solver[DescentState]):
    """Gradient descent with the best constant step.

    x⁺ = x - 2/(L + mu) ∇J(x), with mu = 0 where none is proved (then 1/L is used).

    ‖x_k - x̂‖ <= ((κ - 1)/(κ + 1))^k ‖x_0 - x̂‖ (Nesterov 2004, Theorem 2.1.15).

    Raises:
        InputError: the energy declares no Lipschitz constant.

    Example:
        >>> GradientDescent()
        GradientDescent()
    """

    def init(self, objective: SmoothObjective, x: Tensor) -> DescentState:
        """Fix the step from the bounds."""
        advice = "override bounds(), or use Nesterov(backtracking=True)"
        lipschitz, mu = curvature_range(objective, "gradient descent", advice)
        step = torch.where(mu > 0, 2 / (lipschitz + mu), 1 / lipschitz)
        return DescentState(x, step.to(x.dtype))

    def step(self, objective: SmoothObjective, state: DescentState) -> DescentState:
        """One gradient evaluation."""
        x = state.x - rows.expand(state.step, state.x) * objective.grad(state.x)
        return DescentState(x, state.step)
