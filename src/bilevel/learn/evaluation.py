"""What the upper level learns from one look at θ."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta

__all__ = ["Evaluation"]


@dataclass(frozen=True)
class Evaluation(Packable):
    """Means over the samples looked at. ``interval`` and ``error`` are inf where not proved."""

    theta: Theta
    accuracy: float
    """The rms accuracy ε that the lower level was asked for [grey value]."""
    value: float
    """Mean loss at the computed reconstructions."""
    corrected: float
    """Adjoint-corrected mean loss; ``value`` itself where no gradient was asked for."""
    interval: float
    """|corrected - L(θ)| <= interval."""
    interval_estimate: float
    """An estimate of the same number."""
    grad: Theta
    """Empty where none was asked for."""
    error: float
    """‖grad - ∇L(θ)‖ <= error."""
    estimate: float
    """An estimate of the same error; nan if none was asked for."""
    certificate: float
    """Largest certified rms distance of a sample; inf where one is not proved."""
    uncertified: int
    """Samples that did not reach the accuracy asked for."""
    unsolved: int
    """Samples whose adjoint system broke down; they are missing from ``grad``."""
    samples: int

    @property
    def proved(self) -> bool:
        """Whether value and gradient carry proved errors."""
        return math.isfinite(self.error) and math.isfinite(self.interval)

    @property
    def finite(self) -> bool:
        """Whether value and gradient are numbers."""
        return math.isfinite(self.value) and all(
            bool(g.isfinite().all()) for g in self.grad.values()
        )

    @property
    def saturated(self) -> bool:
        """Whether most samples missed the accuracy: asking for more is of no use."""
        return 2 * (self.uncertified - self.unsolved) > self.samples

    @property
    def doubt(self) -> float:
        """The best that is known of the gradient's error: bound or estimate; inf for neither."""
        return self.error if math.isnan(self.estimate) else min(self.error, self.estimate)

    @property
    def slack(self) -> float:
        """The best that is known of the error of ``corrected``, proved or not.

        It is second order in the error of x, so the correction itself, first order, exceeds it.
        """
        correction = abs(self.corrected - self.value)
        return min(self.interval, self.interval_estimate, correction)
