"""The weight at which the reconstruction depends least on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bilevel.select.choice import Outcome
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule

__all__ = ["QuasiOptimality"]


@dataclass(frozen=True)
class QuasiOptimality(Rule):
    """Where x changes least with the weight: σ not needed, an operator that loses much is.

    min ‖dx_w/dlog w‖ (Tikhonov and Glasko 1965), dx/dlog w = -H⁻¹ w ∇R: one linear system.

    It needs no noise level, but an A that loses much: noise must make x_w restless again where w
    is small. For denoising, and for ranges that reach too far, x_w rests at the edges.

    Example:
        >>> QuasiOptimality().goal
        <Goal.MINIMUM: 'minimum'>
    """

    goal: ClassVar[Goal] = Goal.MINIMUM

    def value(self, point: Point) -> Tensor:
        """The rms of dx/dlog w [grey value]."""
        return point.slope.double().square().flatten(1).mean(1).sqrt()

    def advice(self, outcome: Outcome, value: float) -> str:
        """Reconstructions always rest at weights small or large enough."""
        if outcome is Outcome.EDGE:
            return (
                "reconstructions rest where weights are extreme: narrow the range to those that "
                "make sense, or use another rule, e.g. GCV"
            )
        return super().advice(outcome, value)
