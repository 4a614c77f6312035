"""Which tolerance an accuracy in grey values stands for: one table for all who solve."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bilevel.model.kinds import has_dual
from bilevel.model.objective import Objective
from bilevel.solve.certificate import Tolerance

__all__ = ["CHOOSING", "LEARNING", "RECONSTRUCTING", "USUAL", "Policy"]

USUAL = 1e-3
"""The accuracy of reconstructions where none is asked for, relative to the contrast."""


@dataclass(frozen=True)
class Policy:
    """The rms distance where strong convexity of use is proved, otherwise the rms of ∇J.

    That of the image is enough, where the state has further channels.

    Args:
        share: of the accuracy [grey value] that ∇J is brought to where no distance is proved.
        convex: the least strong convexity of use [1]; never less than rounding hides, since a
            distance that divides by such a mu cannot be met.
        dual: as ``share``, of saddle problems, whose residual holds the root of a gap and falls
            more slowly than the error of x does; ``share`` if None.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> LEARNING.tolerance(energy.at(torch.ones(1, 1, 2, 2)), 1e-3, dtype=torch.float32)
        Tolerance(rms=0.001, gap=inf, residual=inf)
    """

    share: float
    convex: float = 0.0
    dual: float | None = None

    def tolerance(
        self,
        objective: Objective,
        accuracy: float,
        *,
        dtype: torch.dtype,
        stiffness: float = 1.0,
    ) -> Tolerance:
        """For rms ``accuracy`` [grey value].

        ``stiffness`` is the unit of ∇J over grey values, ``energy.stiffness(contrast)``: 1 for
        squared distances.
        """
        bounds = objective.bounds
        hidden = torch.finfo(dtype).eps * bounds.lipschitz.nan_to_num(0.0, 0.0, 0.0)
        mu = objective.image_mu
        if bool(((mu > hidden) & (mu >= self.convex * stiffness)).all()):
            return Tolerance(rms=accuracy)
        return Tolerance(residual=self._share(objective) * stiffness * accuracy)

    def as_near(self, objective: Objective, residual: float) -> Tolerance:
        """For the rms of ∇J, or what brings a saddle problem as near to its minimum."""
        if not has_dual(objective):
            return Tolerance(residual=residual)
        mu = objective.bounds.proved_mu()
        if bool((mu > 0).all()) and bool((mu >= self.convex).all()):
            return Tolerance(rms=residual / float(mu.max()))
        return Tolerance(residual=residual * self._share(objective) / self.share)

    def _share(self, objective: Objective) -> float:
        return self.share if self.dual is None or not has_dual(objective) else self.dual


LEARNING = Policy(share=1.0)
"""Algorithms of the upper level tighten what is too loose."""
RECONSTRUCTING = Policy(share=1e-2)
"""Nobody looks again: ∇J is brought to a hundredth, as the distance may be as much larger."""
CHOOSING = Policy(share=3e-2, convex=1e-2, dual=0.3)
"""Rules for a weight: proved distances would cost more where J is hardly convex."""
