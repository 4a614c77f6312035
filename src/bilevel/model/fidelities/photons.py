"""What fidelities of counted light have in common: a function of the mean of each datum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.model.fidelities.pointwise import Pointwise
from bilevel.model.operators.operator import Operator

__all__ = ["Photons", "divergence"]

NEAR, TERMS = 0.1, 8
"""Where the divergence is a series, and its terms: 0.1^16/17 is below the eps of float64."""


class Photons(Pointwise):
    """w Σ ψ(t; z) with t = A x + background and z = y + background.

    ψ is given where t >= background, as φ: convex in t, with φ'' and |φ'''| that fall as t grows.
    Where A x < 0 the sum goes on as its second-order Taylor polynomial at t = background, plus a
    wall whose second derivative grows to 2 stiffness/background within one background: it is
    convex and twice differentiable everywhere, has a Lipschitz Hessian and grows in all directions
    that A sees, even where no count is. Minimisers with A x >= 0 are not affected.
    """

    def __init__(
        self,
        operator: Operator | None = None,
        background: float = 0.01,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, background and weight."""
        super().__init__(operator, weight, learn=learn)
        self.background = check_positive(background, "the background")

    @abstractmethod
    def _phi(self, s: Tensor, z: Tensor) -> Tensor:
        """φ(s; z) of every datum, for s >= background."""

    @abstractmethod
    def _bent(self, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """φ'(s; z) and φ''(s; z)."""

    @abstractmethod
    def _third(self, s: Tensor, z: Tensor) -> Tensor:
        """|φ'''(s; z)|."""

    @abstractmethod
    def _most(self, z: Tensor) -> Tensor:
        """Bounds φ'' of every datum from above, for all s >= background; like ``z``, float64."""

    def _stiffness(self, like: Tensor) -> Tensor:
        """The unit of the wall, () in the precision of ``like``: what φ' tends to for large t."""
        return like.new_ones(())

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {**super().options(), "background": self.background}

    def mean(self, x: Tensor) -> Tensor:
        """t = A x + background, what the scaled counts are on average."""
        return self.operator(x) + self.background

    def counts(self, y: Tensor) -> Tensor:
        """z = y + background."""
        return y + self.background

    def start(self, y: Tensor) -> Tensor:
        """As for Gaussian noise, not negative."""
        return super().start(y).clamp_min(0.0)

    def _predicted(self, x: Tensor) -> Tensor:
        """The mean."""
        return self.mean(x)

    def _observed(self, y: Tensor) -> Tensor:
        """The counts."""
        return self.counts(y)

    def _extremes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """From 0, for large t, to max φ'' + 2 stiffness/background."""
        wall = 2 * self._stiffness(z.double()) / self.background
        highest = self._most(z.double()).flatten(1).amax(1) + wall
        return torch.zeros_like(highest), highest.detach()

    def _jump(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """From the values at both ends: ψ'' falls."""
        here = self._curvature(t, z)
        low, high = self._curvature(t - reach, z), self._curvature(t + reach, z)
        return torch.maximum(low - here, here - high)

    def _steepness(self, t: Tensor, z: Tensor, reach: Tensor) -> Tensor:
        """That at the lower end: |φ'''| falls, and that of the wall is 2 stiffness/background²."""
        low = t - reach
        wall = (low < self.background).to(z) * (2 * self._stiffness(z) / self.background**2)
        return torch.maximum(self._third(low.clamp_min(self.background), z), wall)

    def _point(self, t: Tensor, z: Tensor) -> Tensor:
        s, u = self._parted(t)
        low = u.clamp_max(1.0)
        slope, curvature = self._bent(s, z)
        below = self.background * u
        point = self._phi(s, z) - below * slope + 0.5 * below.square() * curvature
        wall = low**3 / 6 + (u - low) * (u + low - 1) / 2
        return point + 2 * self._stiffness(t) * self.background * wall

    def _slope(self, t: Tensor, z: Tensor) -> Tensor:
        s, u = self._parted(t)
        low = u.clamp_max(1.0)
        slope, curvature = self._bent(s, z)
        wall = low.square() + 2 * (u - low)
        return slope - self.background * u * curvature - self._stiffness(t) * wall

    def _curvature(self, t: Tensor, z: Tensor) -> Tensor:
        s, u = self._parted(t)
        wall = (2 * self._stiffness(t) / self.background) * u.clamp_max(1.0)
        return self._bent(s, z)[1] + wall

    def _parted(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Max(t, background), and how far t is below, in units of the background."""
        s = t.clamp_min(self.background)
        return s, (s - t) / self.background


def divergence(s: Tensor, z: Tensor) -> Tensor:
    """s - z - z log(s/z) for s > 0 and z >= 0, to a few eps of itself where s is near z.

    With v = (s - z)/(s + z), log(s/z) = 2 artanh v, whose series is as short as v is small.
    """
    v = (s - z) / (s + z)
    square = torch.where(v.abs() < NEAR, v, 0.0).square()
    series = torch.zeros_like(square)
    for k in range(TERMS, 0, -1):
        series = 1 / (2 * k + 1) + square * series
    near = 2 * z * square * (1 / (1 - v.clamp_max(NEAR)) - v * series)
    far = s - z - z * torch.log(s / z.clamp_min(torch.finfo(z.dtype).tiny * 1e9))
    return torch.where(v.abs() < NEAR, near, far)
