"""The discrepancy principle for counts: as far from the data as the noise is expected to be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_choice, check_positive
from bilevel.model import Variational
from bilevel.risk.counts import check_poisson, counts_of, means_of
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule

__all__ = ["PoissonDiscrepancy", "expected_divergence"]

TARGETS = ("half", "expected", "masked")
LEAST, MOST, POINTS = 1e-5, 1e3, 2000
"""Of the table of E KL; λ beyond it follow the expansions at 0 and at infinity."""


@dataclass(frozen=True)
class PoissonDiscrepancy(Rule):
    """As far from the counts as the noise is expected to be: Poisson noise of known peak.

    Σ KL(λ; k) = its expectation, with counts k = peak (y + b), means λ = peak (A x_w + b).

    KL(λ; k) = λ - k + k log(k/λ). Of the expectation there are three versions:

    - "half": 1/2 for every datum, its limit for large λ (Zanella, Boccacci, Zanni, Bertero 2009);
    - "expected": E KL(λ; Poisson(λ)) at the λ of the reconstruction, right for any number of
      photons (nearly exact: Bevilacqua, Lanza, Pragliola, Sgallari 2022);
    - "masked": the same over the data with a count alone, whose law given that is Poisson without
      zero (Bevilacqua, Lanza, Pragliola, Sgallari 2023): also right where λ is near 0, but for
      what a mask of few data costs in accuracy.

    A single realisation scatters around its expectation, and the reconstruction fits a part of the
    noise: like the principle for Gaussian noise, all versions smooth a little too much.

    Args:
        peak: photons at grey value 1, that of the noise.
        target: of the divergence from the data.

    Raises:
        InputError: a peak that is not positive, an unknown target; later a fidelity that is not
            KullbackLeibler, rows without any count.

    Example:
        >>> PoissonDiscrepancy(peak=20.0).target
        'expected'
    """

    peak: float
    target: Literal["expected", "half", "masked"] = "expected"
    goal: ClassVar[Goal] = Goal.ROOT

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.peak, "the photon number peak")
        check_choice(self.target, TARGETS, "target of the discrepancy principle")

    def check(self, energy: Variational, y: Tensor) -> None:
        """Counts of known peak."""
        check_poisson("the discrepancy principle for counts", energy, y, self.peak)

    def value(self, point: Point) -> Tensor:
        """The mean excess of KL over its expectation."""
        k, mean = (
            self.peak * counts_of(point.energy, point.y),
            self.peak * means_of(point.energy, point.prediction),
        )
        used = k > 0.5 if self.target == "masked" else torch.ones_like(k, dtype=torch.bool)
        excess = torch.where(used, _divergence(mean, k) - self._expected(mean), 0.0)
        return excess.flatten(1).sum(1) / used.flatten(1).sum(1).clamp_min(1)

    def _expected(self, mean: Tensor) -> Tensor:
        if self.target == "half":
            return torch.full_like(mean, 0.5)
        whole = expected_divergence(mean)
        if self.target == "expected":
            return whole
        return (whole - mean * torch.exp(-mean)) / -torch.expm1(-mean)


def expected_divergence(mean: Tensor) -> Tensor:
    """E KL(λ; Poisson(λ)) for each λ > 0 in ``mean``, float64, to about 1e-6.

    From a table of the sum over all counts, linear in log λ; -λ log λ + log(2) λ² below it and
    1/2 + 1/(12 λ) + 1/(12 λ²) above.

    Example:
        >>> round(float(expected_divergence(torch.tensor([1e6]).double())), 6)
        0.5
    """
    table = _table()
    place = (mean.double().clamp(LEAST, MOST).log() - math.log(LEAST)) / _STEP
    left = place.long().clamp(0, POINTS - 2)
    inside = torch.lerp(table[left], table[left + 1], place - left)
    few = -torch.xlogy(mean, mean) + math.log(2) * mean**2
    many = 0.5 + 1 / (12 * mean) + 1 / (12 * mean**2)
    return torch.where(mean < LEAST, few, torch.where(mean > MOST, many, inside))


_STEP = math.log(MOST / LEAST) / (POINTS - 1)


@cache
def _table() -> Tensor:
    """E K log K - λ log λ on the grid, which is E KL since E K = λ."""
    means = torch.logspace(math.log10(LEAST), math.log10(MOST), POINTS, dtype=torch.float64)
    parts: list[Tensor] = []
    for part in cast(tuple[Tensor, ...], means.split(200)):
        mean = part[:, None]
        top = int(float(mean.max()) + 12 * float(mean.max()) ** 0.5 + 20)
        k = torch.arange(top, dtype=torch.float64)
        law = torch.exp(torch.xlogy(k, mean) - mean - torch.lgamma(k + 1))
        parts.append((law * _divergence(mean, k)).sum(1))
    return torch.cat(parts)


def _divergence(mean: Tensor, k: Tensor) -> Tensor:
    """KL(λ; k)."""
    return mean - k + torch.xlogy(k, k) - torch.xlogy(k, mean)
