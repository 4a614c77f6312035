"""The Poisson unbiased risk estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.model import Variational
from bilevel.risk.counts import check_poisson, counts_of
from bilevel.risk.unbiased import UnbiasedRisk
from bilevel.select.degrees import ONE_PROBE, Degrees
from bilevel.select.point import Point
from bilevel.select.rule import Goal, Rule

__all__ = ["PURE"]


@dataclass(frozen=True)
class PURE(Rule):
    """Least estimated error of A x, nearly unbiased: Poisson noise of known peak.

    (‖A x_w - y‖² - Σz/peak + (2/peak) Σ z_i ∂(A x)_i/∂y_i)/m: the risk of A x, of x if A = I.

    With z = y + b; see :meth:`~bilevel.risk.unbiased.UnbiasedRisk.counts`. Unbiased to first order
    in 1/peak: better the more photons there are and the smoother A x depends on them. The sum is
    the mean of (z ⊙ b)ᵀ ∂(A x)/∂y b over random signs.

    Args:
        peak: photons at grey value 1, that of the noise.
        degrees: which b are taken; "exact" takes all unit vectors.

    Raises:
        InputError: a peak that is not positive; later a fidelity that is not KullbackLeibler, rows
            without any count.

    Example:
        >>> PURE(peak=20.0).degrees.probes
        1
    """

    peak: float
    degrees: Degrees = ONE_PROBE
    goal: ClassVar[Goal] = Goal.MINIMUM

    def __post_init__(self) -> None:
        """Check the peak."""
        check_positive(self.peak, "the photon number peak")

    def check(self, energy: Variational, y: Tensor) -> None:
        """Counts of known peak."""
        check_poisson("PURE", energy, y, self.peak)

    def fresh(self) -> Rule | None:
        """With other probes."""
        degrees = self.degrees.fresh()
        return None if degrees is None else replace(self, degrees=degrees)

    def value(self, point: Point) -> Tensor:
        """The estimate of the mean squared error of A x [unit of the data squared]."""
        z = counts_of(point.energy, point.y)
        risk = UnbiasedRisk.counts(z, point.seen, self.peak)
        pairs = self.degrees.responses(point, (z.flatten(1).mean(1) / self.peak).sqrt())
        return risk.value(point.residual, self.degrees.paired(point, risk, pairs))
