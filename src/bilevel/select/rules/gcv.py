"""Generalised cross-validation, plain and robust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.risk.noise import check_quadratic
from bilevel.select.choice import Outcome
from bilevel.select.degrees import ONE_PROBE, Degrees
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule

__all__ = ["GCV"]


INTERPOLATED = 0.95
"""Of the data, as degrees of freedom: beyond, x_w is the data and V a quotient of 0 by 0."""


@dataclass(frozen=True)
class GCV(Rule):
    """Generalised cross-validation: data predicted from all the others, σ not needed.

    V = m ‖A x_w - y‖²/(m - df)² with df = tr P, P = ∂(A x)/∂y (Golub, Heath and Wahba 1979).

    It needs no noise level. ``robustness`` γ < 1 gives (γ + (1 - γ) tr(PᵀP)/m) V instead, which
    guards against weights far too small (Lukas 2006, robust GCV, for linear x_w).

    The minimum at the largest weight is taken. As w → 0, V tends to m ‖∇R(y)‖²/(tr ∇²R(y))² for
    denoising, which is about σ²/2 for total variation: less than at any good weight. Where clipped
    or coloured noise leaves no minimum before that, the answer is EDGE: degrees of freedom beyond
    95 % of m mean that nearly all noise is kept.

    Args:
        robustness: γ in (0, 1]; below 1 guards against weights far too small, 1 is plain GCV.
        degrees: how traces are computed.

    Raises:
        InputError: γ outside (0, 1].

    Example:
        >>> GCV(robustness=0.5).robustness
        0.5
    """

    robustness: float = 1.0
    degrees: Degrees = ONE_PROBE
    goal: ClassVar[Goal] = Goal.MINIMUM
    descending: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        if not 0 < self.robustness <= 1:
            raise InputError("robustness must lie in (0, 1]", given=self.robustness)

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian noise."""
        check_quadratic("GCV", energy)

    def value(self, point: Point) -> Tensor:
        """V times the factor, about the variance of the noise [unit of the data squared]."""
        df, square = self.degrees.moments(point)
        left = point.size - df
        factor = self.robustness + (1 - self.robustness) * square / point.size
        value = factor * point.size * point.fine_misfit / left.square()
        return torch.where((left > 0) & (point.fine_misfit > 0), value, torch.inf)

    def stands(self, point: Point) -> Tensor:
        """Not where the data are interpolated: there V knows R and y alone, and no prediction."""
        return self.degrees.of(point) <= INTERPOLATED * point.size

    def advice(self, outcome: Outcome, value: float) -> str:
        """At an edge, the robust variant may have a minimum inside."""
        if outcome is Outcome.EDGE:
            return (
                "V falls on to the edge, or to where all noise is kept, as it does if noise is not "
                "white or was clipped: take a robustness below 1, e.g. rules.GCV(robustness=0.3), "
                "a rule that knows the noise level, or widen the range"
            )
        return super().advice(outcome, value)
