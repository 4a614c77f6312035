"""Residuals as white as noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from bilevel.model import Variational
from bilevel.model.fidelities import KullbackLeibler
from bilevel.select.choice import Outcome
from bilevel.select.noise import check_quadratic, standardised
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule

__all__ = ["Whiteness"]


@dataclass(frozen=True)
class Whiteness(Rule):
    """min W = N Σ|r̂|⁴/(Σ|r̂|²)², r̂ the 2-D DFT of the N residuals A x_w - y, their mean included.

    By Parseval N Σ|r̂|⁴ is the energy of the autocorrelation of r, so W = 1 for a flat spectrum;
    it is about 2 for white Gaussian noise (Lanza, Pragliola and Sgallari 2020, residual whiteness
    principle). It needs no noise level.

    Example:
        >>> Whiteness().goal
        <Goal.MINIMUM: 'minimum'>
    """

    goal: ClassVar[Goal] = Goal.MINIMUM

    def check(self, energy: Variational, y: Tensor) -> None:
        """Gaussian or Poisson noise."""
        if not isinstance(energy.fidelity, KullbackLeibler):
            check_quadratic("the whiteness of residuals", energy)

    def value(self, point: Point) -> Tensor:
        """W [1]; inf where residuals vanish."""
        return whiteness(standardised(point.fine_residual, point))

    def advice(self, outcome: Outcome, value: float) -> str:
        """Noise that is not white misleads the rule."""
        if outcome is Outcome.EDGE:
            return (
                f"residuals with W = {value:.3g} (2 for white noise) are whitest at the edge: "
                "widen the range; if the noise is correlated, use another rule"
            )
        return super().advice(outcome, value)


def whiteness(residual: Tensor) -> Tensor:
    """W of every row, (b, c, h, w) -> (b,) float64."""
    power = cast(Tensor, torch.fft.fft2(residual.double())).abs().square().flatten(1)
    total = power.sum(1)
    value = power.shape[1] * power.square().sum(1) / total.square()
    return torch.where(total > 0, value, torch.inf)
