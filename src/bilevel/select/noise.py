"""What rules assume of the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.data import noise_level
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.model.fidelities import KullbackLeibler, SquaredL2
from bilevel.select.choice import Outcome
from bilevel.select.counts import means_of
from bilevel.select.point import Point

__all__ = [
    "Level",
    "check_gaussian",
    "check_quadratic",
    "level_of",
    "risk_advice",
    "standardised",
    "variance_of",
]

Level = float | Tensor | None
"""A noise level σ [unit of the data]: one for all rows, or one for each, (b,); None: estimated."""


def check_quadratic(rule: str, energy: Variational) -> SquaredL2:
    """The fidelity, if it is that of Gaussian noise; otherwise InputError."""
    if not isinstance(energy.fidelity, SquaredL2):
        what = f"{rule} assumes Gaussian noise, that is the fidelity SquaredL2"
        raise InputError(what, given=type(energy.fidelity).__name__)
    return energy.fidelity


def check_gaussian(rule: str, energy: Variational, y: Tensor, sigma: Level) -> None:
    """The same, with a level for every row of ``y``."""
    check_quadratic(rule, energy)
    if sigma is None:
        _check_estimate(y)
        return
    level = check_finite(torch.as_tensor(sigma, dtype=torch.float64), "the noise level sigma")
    fits = level.shape in {torch.Size([]), torch.Size([len(y)])}
    if not (fits and bool((level > 0).all())):
        expected = f"sigma must be positive, one number or one for each of {len(y)} rows"
        advice = "estimate it with bl.data.noise_level(y)"
        raise InputError(expected, given=sigma, advice=advice)


def _check_estimate(y: Tensor) -> None:
    """Raise InputError unless white noise shows in the data."""
    level = noise_level(y)
    if not bool((level > 0).all()):
        advice = "give sigma, or leave these rows out"
        raise InputError("no noise was found in the data", given=f"sigma = {level}", advice=advice)


def level_of(sigma: Level, point: Point) -> Tensor:
    """The level σ of the rows of a point, (b,) float64."""
    if sigma is None:
        return noise_level(point.y)
    level = torch.as_tensor(sigma, dtype=torch.float64)
    return level[point.index] if level.ndim else level.expand(len(point.index))


def variance_of(sigma: Level, point: Point) -> Tensor:
    """σ² of the rows of a point, (b,) float64."""
    return level_of(sigma, point).square()


def risk_advice(outcome: Outcome) -> str:
    """What to do about an estimated risk that is least at an edge; nothing otherwise."""
    if outcome is not Outcome.EDGE:
        return ""
    return (
        "the risk still falls at the edge: widen the range; if it falls on towards large weights "
        "the data may hold no more than noise, towards small ones sigma may be too small"
    )


def standardised(residual: Tensor, point: Point) -> Tensor:
    """The residual A x - y of a point over √(A x + background) for counts: of one variance.

    White residuals are then a sign of a good reconstruction for Poisson noise too.
    """
    if isinstance(point.energy.fidelity, KullbackLeibler):
        return residual / means_of(point).sqrt().to(residual)
    return residual
