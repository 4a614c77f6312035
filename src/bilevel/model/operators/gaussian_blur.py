"""Blur with a Gaussian, of known or learned width."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_count, check_positive
from bilevel.model.operators.boundary import Boundary
from bilevel.model.operators.filtering import Filtering
from bilevel.model.operators.inputs import real_tensor
from bilevel.model.part import check_learn
from bilevel.model.sets import Box, Set

__all__ = ["GaussianBlur"]

_REACH = 4.0
"""Standard deviations at which the kernel is cut off."""
_NARROW = 0.1
"""The least width that is learned [pixel]; such a kernel is the identity to 1e-21."""


class GaussianBlur(Filtering):
    """Blur with a Gaussian kernel that is cut off and sums to one: deblurring.

    k[j] is proportional to exp(-|j - s|²/2σ²), with the centre s and the boundaries as for
    ``Convolution``.

    Args:
        sigma: standard deviation [pixel].
        size: side of the kernel [pixel]; up to 4 σ on either side if None.
        boundary: "circular", "zero", "reflecting" or "valid".
        learn: ``("sigma",)`` to learn the width, between 0.1 pixel and half the side of the
            kernel.

    Raises:
        InputError: a width that is not positive, a side below 1, or an unknown boundary or name
            in ``learn``.

    Example:
        >>> operator = GaussianBlur(0.5, size=3)
        >>> round(float(operator.taps().sum()), 6), operator.shape
        (1.0, (3, 3))
    """

    def __init__(
        self,
        sigma: float | Tensor,
        size: int | None = None,
        boundary: Boundary = "circular",
        *,
        learn: Collection[str] = (),
    ) -> None:
        check_learn(learn, ("sigma",))
        super().__init__(boundary)
        width = real_tensor(sigma, "sigma", (0,))
        check_positive(float(width), "sigma")
        check_count(size, "size")
        side = 2 * math.ceil(_REACH * float(width)) + 1 if size is None else size
        self.shape = (side, side)
        self.sigma = nn.Parameter(width, requires_grad="sigma" in learn)

    @property
    def source(self) -> Tensor:
        """σ."""
        return self.sigma

    def taps(self) -> Tensor:
        """The kernel in float64, the same in any precision of σ: bounds speak of both."""
        profile = torch.exp(-0.5 * self._square(self.sigma) / self.sigma.double().square())
        profile = profile / profile.sum()
        return torch.outer(profile, profile)

    def _square(self, like: Tensor) -> Tensor:
        """Squared distances from the centre along an axis [pixel²]."""
        side = self.shape[-1]
        at = torch.arange(side, dtype=torch.float64, device=like.device) - side // 2
        return at.square()

    def slope(self) -> float:
        """Σ_j |∂k[j]/∂σ|, with k[j] (|j|² - mean of |j|²)/σ³ for the derivative."""
        if not self.sigma.requires_grad:
            return 0.0
        with torch.no_grad():
            taps, square = self.taps(), self._square(self.sigma)
            distance = square[:, None] + square[None]
            mean = (taps * distance).sum()
            total = (taps * (distance - mean).abs()).sum() / self.sigma.double() ** 3
        return float(total) * (1 + 1e-5)

    def sets(self) -> Mapping[str, Set]:
        """From a tenth of a pixel to half the kernel."""
        now = float(self.sigma.detach())
        return {"sigma": Box(min(_NARROW, now), max(self.shape[-1] / 2, now))}

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        learn = ("sigma",) if self.sigma.requires_grad else ()
        kept = {"sigma": self.sigma.detach(), "size": self.shape[-1]}
        return {**kept, "boundary": self.boundary, "learn": learn}
