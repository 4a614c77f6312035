"""What the upper level learns from one look at θ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from bilevel.ground import theta as algebra
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta

__all__ = ["Evaluation", "pooled"]


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
    variance: float = math.nan
    """Of a single sample's gradient, summed over θ, estimated; nan where nothing tells it."""

    @staticmethod
    def unproved(
        theta: Theta,
        value: float,
        grad: Theta,
        *,
        accuracy: float = math.inf,
        certificate: float = math.inf,
        uncertified: int = 0,
        samples: int = 0,
    ) -> Evaluation:
        """A loss, and perhaps a gradient, of whose errors nothing is known."""
        return Evaluation(
            theta=theta,
            accuracy=accuracy,
            value=value,
            corrected=value,
            interval=math.inf,
            interval_estimate=math.inf,
            grad=grad,
            error=math.inf,
            estimate=math.nan,
            certificate=certificate,
            uncertified=uncertified,
            unsolved=0,
            samples=samples,
        )

    @property
    def noise(self) -> float:
        """‖Var‖₁/|S|: the expected ‖grad - ∇L‖² for independent samples."""
        return self.variance / self.samples

    def drowned(self, ratio: float) -> bool:
        """‖Var‖₁/|S| > ratio² ‖grad‖² (Byrd et al. 2012, Section 3)."""
        return self.noise > ratio**2 * algebra.inner(self.grad, self.grad)

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


def pooled(parts: Sequence[Evaluation]) -> Evaluation:
    """The mean over all samples of evaluations at the same θ and accuracy."""
    if len(parts) == 1:
        return parts[0]
    first, total = parts[0], sum(part.samples for part in parts)

    def mean(name: str) -> float:
        return sum(part.samples * float(getattr(part, name)) for part in parts) / total

    grad: Theta = {name: torch.zeros_like(value) for name, value in first.grad.items()}
    for part in parts:
        grad = algebra.add(grad, part.grad, part.samples / total)
    return replace(
        first,
        **{name: mean(name) for name in _MEANS},
        grad=grad,
        certificate=max(part.certificate for part in parts),
        uncertified=sum(part.uncertified for part in parts),
        unsolved=sum(part.unsolved for part in parts),
        samples=total,
        variance=math.nan,
    )


_MEANS = ("value", "corrected", "interval", "interval_estimate", "error", "estimate")
