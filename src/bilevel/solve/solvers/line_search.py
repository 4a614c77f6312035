"""Backtracking along descent directions, every row by itself, one value and gradient a trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.smooth_objective import SmoothObjective

__all__ = ["LineSearch"]


@dataclass(frozen=True)
class LineSearch:
    """The last accepted point, the direction from there and the length to try along it.

    A trial is accepted when it decreases J enough (Armijo) or, where rounding hides the decrease,
    when the slope says so (Hager and Zhang 2005, approximate Wolfe conditions).
    """

    x: Tensor
    value: Tensor
    gradient: Tensor
    direction: Tensor
    slope: Tensor
    length: Tensor

    @staticmethod
    def start(objective: SmoothObjective, x: Tensor) -> LineSearch:
        """At ``x``, along the steepest descent."""
        value, gradient = objective.value_and_grad(x)
        slope = -rows.inner(gradient, gradient)
        return LineSearch(x, value, gradient, -gradient, slope, torch.ones_like(value))

    def trial(self, objective: SmoothObjective) -> tuple[LineSearch, Tensor]:
        """After one trial, and which rows it was accepted in; the others try a shorter step."""
        x = self.x + rows.expand(self.length, self.x) * self.direction
        value, gradient = objective.value_and_grad(x)
        slope = rows.inner(gradient, self.direction)
        accepted = self._accepts(value, slope)
        secant = (self.slope / (self.slope - slope)).nan_to_num(0.0, 0.0, 0.0)
        shorter = self.length * secant.clamp(0.1, 0.5)
        moved = replace(self, x=x, value=value, gradient=gradient, length=shorter)
        return self._where(accepted, moved, replace(self, length=shorter)), accepted

    def _accepts(self, value: Tensor, slope: Tensor) -> Tensor:
        enough = value <= self.value + 1e-4 * self.length * self.slope
        noise = 8 * torch.finfo(value.dtype).eps * self.value.abs()
        return enough | ((value <= self.value + noise) & (slope <= -0.8 * self.slope))

    def turned(
        self, direction: Tensor, chosen: Tensor, fallback: Callable[[Tensor], Tensor]
    ) -> LineSearch:
        """The rows ``chosen`` go along ``direction``, or -``fallback``(∇J) where that is uphill."""
        slope = rows.inner(self.gradient, direction)
        uphill = ~(slope < 0)
        if bool(uphill.any()):
            downhill = -fallback(self.gradient)
            direction = torch.where(rows.expand(uphill, direction), downhill, direction)
            slope = rows.inner(self.gradient, direction)
        turned = replace(self, direction=direction, slope=slope, length=torch.ones_like(slope))
        return self._where(chosen, turned, self)

    @staticmethod
    def _where(mask: Tensor, chosen: LineSearch, other: LineSearch) -> LineSearch:
        """Without copies of images where all rows are chosen."""
        return chosen if bool(mask.all()) else rows.choose(mask, chosen, other)

    def stuck(self) -> Tensor:
        """Rows whose trial is the point itself, in floating-point numbers."""
        reach = self.length * rows.norm(self.direction)
        return reach <= torch.finfo(reach.dtype).eps * rows.norm(self.x)
