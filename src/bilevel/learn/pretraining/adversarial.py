"""Adversarial regularisation: low at clean images, high at degraded ones, with slopes below 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.learn.pretraining.denoising import peak_among
from bilevel.learn.pretraining.surrogate import Draw, Surrogate
from bilevel.model.losses import Scale
from bilevel.model.smooth import Smooth

__all__ = ["AdversarialRegularisation"]


@dataclass(frozen=True, kw_only=True)
class AdversarialRegularisation(Surrogate):
    """The regulariser as a critic that tells degraded images from clean ones.

    mean (R(x) - R(x_0))/p² + μ mean max(‖∇R(x̄)‖/p - 1, 0)² [1], where x_0 is where the
    reconstruction starts (Aᵀy or a pseudo-inverse), x̄ lies between x and x_0 at random, and p is
    the peak. The weight is to be fitted afterwards.

    Args:
        penalty: μ [1].
        peak: p, the unit of ∇R [grey value]; that of the targets if None.
        batch_size: crops a step.
        size: side of the crops [pixel]; smaller images are taken whole.
        augment: turn and mirror the crops at random.
        rate: how far Adam moves an entry of θ in a step, at the start.
        decay: share of the rate that is left when the budget is used up, in (0, 1].
        momentum: how much of the mean of directions a step keeps, in [0, 1).
        memory: how much of the mean of their squares a step keeps, in [0, 1).

    Source: Lunz, Öktem, Schönlieb 2018 (arXiv 1805.11572), Algorithm 1.

    Raises:
        InputError: options outside their ranges.

    Example:
        >>> AdversarialRegularisation(penalty=5.0, size=32).compares
        True
    """

    penalty: float = 10.0
    peak: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_positive(self.penalty, "penalty")
        if self.peak is not None:
            check_positive(self.peak, "peak")

    @property
    def compares(self) -> bool:
        """Degraded images are needed."""
        return True

    def fitted(self, targets: Sequence[Tensor]) -> AdversarialRegularisation:
        """With the peak of the targets, unless it was given."""
        return self if self.peak is not None else replace(self, peak=peak_among(targets))

    def scale(self) -> Scale:
        """Plain numbers."""
        return Scale()

    def losses(self, prior: Smooth, draw: Draw, progress: float) -> Tensor:
        """Of pairs."""
        del progress
        between = draw.clean + draw.uniform * (draw.degraded - draw.clean)
        peak = self.peak or 1.0
        excess = (rows.norm(prior.grad(between)) / peak - 1).clamp_min(0)
        gap = prior.value(draw.clean) - prior.value(draw.degraded)
        return gap / peak**2 + self.penalty * excess.square()
