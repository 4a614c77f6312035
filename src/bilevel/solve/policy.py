"""Which tolerance an accuracy in grey values stands for: one table for all who solve."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bilevel.ground import rows
from bilevel.model.kinds import has_dual
from bilevel.model.objective import Objective
from bilevel.solve.certificate import Tolerance

__all__ = ["CHOOSING", "LEARNING", "RECONSTRUCTING", "USUAL", "Policy"]

DOUBLE = torch.finfo(torch.float64).eps
USUAL = 1e-3
"""The accuracy of reconstructions where none is asked for, relative to the contrast."""


@dataclass(frozen=True)
class Policy:
    """The rms distance where strong convexity of use is proved, otherwise the rms of ∇J.

    Where the state has further channels and no distance of the whole is proved, the rms distance
    of the ``image`` if that can be met.

    Args:
        share: of the accuracy [grey value] that ∇J is brought to where no distance is proved.
        convex: the least strong convexity of use [1]; never less than rounding hides, since a
            distance that divides by such a mu cannot be met.
        dual: as ``share``, of saddle problems, whose residual holds the root of a gap and falls
            more slowly than the error of x does; ``share`` if None.
        image: whether a distance of the image alone is of use.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> LEARNING.tolerance(energy.at(torch.ones(1, 1, 2, 2)), 1e-3, dtype=torch.float32)
        Tolerance(rms=0.001, gap=inf, residual=inf)
    """

    share: float
    convex: float = 0.0
    dual: float | None = None
    image: bool = False

    def tolerance(
        self,
        objective: Objective,
        accuracy: float,
        *,
        dtype: torch.dtype,
        stiffness: float = 1.0,
    ) -> Tolerance:
        """For rms ``accuracy`` [grey value], but no ∇J below what rounding leaves of it.

        ``stiffness`` is the unit of ∇J over grey values, ``energy.stiffness(contrast)``: 1 for
        squared distances.
        """
        bounds, stiff = objective.bounds, objective.bounds.lipschitz.nan_to_num(0.0, 0.0, 0.0)
        eps = torch.finfo(dtype).eps
        for mu, hidden, fine in (
            (bounds.proved_mu(), eps, True),
            (objective.image_mu, DOUBLE, self.image and _within_reach(objective, accuracy)),
        ):
            if fine and bool(((mu > hidden * stiff) & (mu >= self.convex * stiffness)).all()):
                return Tolerance(rms=accuracy)
        rounding = float((eps * stiff * rows.rms(objective.start()).double()).max())
        return Tolerance(residual=max(self._share(objective) * stiffness * accuracy, rounding))

    def usual(self, objective: Objective) -> float:
        """The rms accuracy where none is asked for, relative to the contrast.

        Ten times the usual one of images that are certified in wider states: that certificate is
        of first order in what is left of ∇J, or of the gap, and the images are far nearer.
        """
        wider = self.image and not bool((objective.bounds.proved_mu() > 0).all())
        return 10 * USUAL if wider and bool((objective.image_mu > 0).all()) else USUAL

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


def _within_reach(objective: Objective, accuracy: float) -> bool:
    """Whether an image in a wider state can be proved so accurate, as told by the start.

    d² ~ 2 M R/mu (:func:`~bilevel.solve.certify`), and M is no less than what rounding may leave of
    ∇J in float64, where solves go on.
    """
    x = objective.start()
    reach = objective.reach(x, torch.zeros_like(x))
    far = accuracy**2 * objective.image(x)[0].numel()
    least = reach.sensitivity * objective.rounding(x.double())
    return bool((2 * least * reach.offset <= objective.image_mu * far).all())


LEARNING = Policy(share=1.0)
"""Algorithms of the upper level tighten what is too loose."""
RECONSTRUCTING = Policy(share=1e-2, dual=0.1, image=True)
"""Nobody looks again: ∇J is brought to a hundredth, as the distance may be as much larger; the root
of a gap to a tenth."""
CHOOSING = Policy(share=3e-2, convex=1e-2, dual=0.3)
"""Rules for a weight: proved distances would cost more where J is hardly convex."""
