"""The corner of the curve of residuals against penalties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bilevel.ground.checks import check_choice
from bilevel.model import Variational
from bilevel.risk.noise import check_quadratic
from bilevel.select.choice import Outcome
from bilevel.select.point import Point
from bilevel.select.rule import CornerRule, Goal, Rule

__all__ = ["LCurve"]

CORNERS = ("curvature", "triangle")


@dataclass(frozen=True)
class LCurve(Rule):
    """The corner of residual against penalty on logarithmic scales: σ not needed.

    The greatest curvature of w -> (ln ‖A x_w - y‖, ln R(x_w)) (Hansen and O'Leary 1993).

    Since Ψ' = -w R' along the curve, its slope is -2Ψ/(w R) with Ψ = ½ ‖A x - y‖² (times the
    weight of the fidelity): the curvature takes first derivatives by log w only, that is one
    linear system. It needs no noise level; denoising often has no corner.

    "triangle" takes the corner of 31 points instead, as a person would see it (Castellanos, Gómez
    and Guerra 2002): small wiggles do not count, and the weight is one of the 31.

    Args:
        corner: greatest curvature, or sharpest triangle on a grid.

    Raises:
        InputError: another corner.

    Example:
        >>> LCurve().goal
        <Goal.MINIMUM: 'minimum'>
    """

    corner: Literal["curvature", "triangle"] = "curvature"
    goal: ClassVar[Goal] = Goal.MINIMUM
    grid: ClassVar[int | None] = 13

    def __post_init__(self) -> None:
        """Check the option."""
        check_choice(self.corner, CORNERS, "corner of the L-curve")

    def begin(self, energy: Variational, y: Tensor) -> Rule:
        """The rule that looks for the corner asked for."""
        del energy, y
        return _Triangle(self.corner) if self.corner == "triangle" else self

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian noise."""
        check_quadratic("the L-curve", energy)

    def value(self, point: Point) -> Tensor:
        """Minus the curvature [1]; inf where ‖A x - y‖ or R(x) vanish."""
        scale = check_quadratic("the L-curve", point.energy).weight.detach().double()
        twice = scale * point.fine_misfit
        up = point.penalty_slope / point.penalty
        across = -point.weight * point.penalty_slope / twice
        slope = -twice / (point.weight * point.penalty)
        turn = slope * (2 * across - 1 - up)
        curvature = turn / (across * (1 + slope.square()) ** 1.5)
        defined = (twice > 0) & (point.penalty > 0) & (across > 0)
        return torch.where(defined, -curvature, torch.inf)

    def advice(self, outcome: Outcome, value: float) -> str:
        """A curve without a corner has no answer."""
        if outcome is Outcome.EDGE:
            return "the curve has no corner in this range: widen it or use another rule, e.g. GCV"
        return super().advice(outcome, value)


@dataclass(frozen=True)
class _Triangle(LCurve, CornerRule):
    goal: ClassVar[Goal] = Goal.CORNER

    def coordinates(self, point: Point) -> Tensor:
        """(ln ‖A x_w - y‖, ln R(x_w)), (b, 2) float64."""
        return torch.stack([0.5 * point.fine_misfit.log(), point.penalty.log()], 1)
