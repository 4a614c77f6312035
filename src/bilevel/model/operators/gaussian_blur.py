"""Blur with a Gaussian, of known or learned width."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from bilevel.ground.checks import check_count, check_positive
from bilevel.model.operators.boundary import Boundary
from bilevel.model.operators.filtering import Filtering
from bilevel.model.part import check_learn, positive_parameter
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
        learn: ``("sigma",)`` to learn the width, stored as ``log_sigma``, between 0.1 pixel and
            half the side of the kernel.

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
        sigma: float,
        size: int | None = None,
        boundary: Boundary = "circular",
        *,
        learn: Collection[str] = (),
    ) -> None:
        check_learn(learn, ("sigma",))
        super().__init__(boundary)
        check_positive(sigma, "sigma")
        side = 2 * math.ceil(_REACH * sigma) + 1 if size is None else check_count(size, "size")
        self.shape = (side, side)
        self.log_sigma = positive_parameter(sigma, "sigma", learn)

    @property
    def source(self) -> Tensor:
        """log σ."""
        return self.log_sigma

    def taps(self) -> Tensor:
        """The kernel; computed in float64, so that it is the same in any precision of σ."""
        square = self._square(self.log_sigma)
        profile = torch.exp(-0.5 * square / (2 * self.log_sigma.double()).exp())
        profile = profile / profile.sum()
        return torch.outer(profile, profile).to(self.log_sigma.dtype)

    def _square(self, like: Tensor) -> Tensor:
        """Squared distances from the centre along an axis [pixel²]."""
        side = self.shape[-1]
        at = torch.arange(side, dtype=torch.float64, device=like.device) - side // 2
        return at.square()

    def slope(self) -> float:
        """Σ_j |∂k[j]/∂log σ|, with k[j] (|j|² - mean of |j|²)/σ² for the derivative."""
        if not self.log_sigma.requires_grad:
            return 0.0
        with torch.no_grad():
            taps, square = self.taps().double(), self._square(self.log_sigma)
            distance = square[:, None] + square[None]
            mean = (taps * distance).sum()
            total = (taps * (distance - mean).abs()).sum() / (2 * self.log_sigma.double()).exp()
        return float(total) * (1 + 1e-5)

    def sets(self) -> Mapping[str, Set]:
        """From a tenth of a pixel to half the kernel."""
        widest = max(self.shape[-1] / 2, math.exp(float(self.log_sigma.detach())))
        return {"log_sigma": Box(math.log(_NARROW), math.log(widest))}

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        sigma = float(self.log_sigma.detach().double().exp())
        learn = ("sigma",) if self.log_sigma.requires_grad else ()
        return {"sigma": sigma, "size": self.shape[-1], "boundary": self.boundary, "learn": learn}
