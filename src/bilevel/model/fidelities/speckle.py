"""Multiplicative noise of averaged intensities: speckle, the Gamma distribution."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.model.fidelities.photons import Photons

__all__ = ["Speckle"]


class Speckle(Photons):
    """weight Σ log t + z/t, t = A x + background: speckle, multiplicative Gamma noise.

    Ψ(A x; y) = w Σ log(t/z) + z/t - 1 with t = A x + background and z = y + background > 0: of
    w = L minus the log-likelihood of intensities averaged over L looks, up to a constant (Aubert,
    Aujol 2008), as :class:`~bilevel.data.SpeckleNoise` of the same background draws them.

    Not convex where t > 2 z: ψ'' = (2 z - t)/t³ is least at t = 3 z, -1/(27 z²). Where A x < 0 the
    sum goes on as in :class:`KullbackLeibler`, with a wall of height 2/background²; L = w ‖A‖²
    ((2 max z - background)/background³ + 2/background²), or the wall alone if that is more.
    Minimisers with A x >= 0 are not affected. (:class:`KullbackLeibler` is a convex alternative:
    with total variation it has the minimiser of the logarithmic model; Steidl, Teuber 2010.)

    Args:
        operator: A, the identity if None.
        background: intensity that is always there, > 0 [grey value].
        weight: w, the looks L [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a background or weight that is not positive, an unknown name in ``learn``;
            later data that are not above -background.

    Example:
        >>> fidelity = Speckle(background=1.0)
        >>> x, y = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
        >>> fidelity(x, y)  # 2 (2 - 1 - log 2)
        tensor([0.6137])
        >>> fidelity.grad(x, y).flatten()  # 1 - 2
        tensor([-1., -1.])
    """

    degree = 0
    convex = False
    evaluation: ClassVar[float] = 2.0

    def check(self, y: Tensor) -> None:
        """Data of the operator, all above -background: speckle has no zeros."""
        super().check(y)
        if bool((y + self.background <= 0).any()):
            what = f"intensities with speckle lie above -background = {-self.background:g}"
            advice = "take the background of the noise, a larger one, or clamp the data"
            raise InputError(what, given=f"a least value of {float(y.min()):.3g}", advice=advice)

    def _stiffness(self, like: Tensor) -> Tensor:
        """1/background."""
        return super()._stiffness(like) / self.background

    def _phi(self, s: Tensor, z: Tensor) -> Tensor:
        """log(s/z) + z/s - 1 = v - log(1 + v) with v = z/s - 1."""
        v = (z - s) / s
        return v - torch.log1p(v)

    def _bent(self, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """(s - z)/s² and (2 z - s)/s³."""
        return (s - z) / s.square(), (2 * z - s) / s**3

    def _third(self, s: Tensor, z: Tensor) -> Tensor:
        """What |2 s - 6 z|/s⁴ can be from s on: it falls to 0 at 3 z, then rises until 4 z."""
        further = torch.where(s < 4 * z, 1 / (128 * z**3), 0.0)
        return torch.maximum((2 * s - 6 * z).abs() / s**4, further)

    def _most(self, z: Tensor) -> Tensor:
        """φ'' at the background, or 0, to which it tends."""
        low = torch.full_like(z, self.background)
        return self._bent(low, z)[1].clamp_min(0.0) * (1 + 1e-12)

    def _extremes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """From φ'' at 3 z, or at the background if that is more."""
        z = z.double()
        valley = self._bent((3 * z).clamp_min(self.background), z)[1]
        return valley.flatten(1).amin(1) * (1 + 1e-12), super()._extremes(z)[1]

    def _jump(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """From the values at both ends, and the least one at 3 z if that lies between them."""
        here, low = self._curvature(t, z), self._curvature(t - reach, z)
        high = self._curvature(t + reach, z)
        valley = (3 * z).clamp_min(self.background)
        inside = (t - reach <= valley) & (valley <= t + reach)
        least = torch.where(inside, self._curvature(valley, z), torch.minimum(low, high))
        return torch.maximum(torch.maximum(low, high) - here, here - least)

    def _offset(self, z: Tensor) -> Tensor:
        """√m/background + 2 ‖z‖/background²."""
        z = z.double()
        return (z[0].numel() ** 0.5 + 2 * rows.length(z) / self.background) / self.background
