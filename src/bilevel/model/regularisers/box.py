"""Box and positivity constraints, as regularisers that are 0 or infinite."""

from __future__ import annotations

import math

from torch import Tensor

from bilevel.model.proximable import Proximable
from bilevel.model.regularisers.nonsmooth import NonSmoothRegulariser

__all__ = ["Box"]


class Box(NonSmoothRegulariser):
    """R(x) = 0 where lower <= x <= upper for every pixel [grey value], infinite elsewhere.

    ``Box(lower=0.0)`` asks for positivity; None means unbounded. Bounds are rounded to the type of
    the data, and certificates are about the box so rounded.

    Raises:
        InputError: lower > upper.

    Example:
        >>> import torch
        >>> Box(0.0, 1.0)(torch.tensor([0.5, 1.5])[:, None, None, None])
        tensor([0., inf])
    """

    def __init__(self, lower: float | None = 0.0, upper: float | None = None) -> None:
        super().__init__()
        self.lower, self.upper = lower, upper
        self.term()

    def options(self) -> dict[str, object]:
        """The bounds."""
        return {"lower": self.lower, "upper": self.upper}

    def term(self) -> Proximable:
        """The box."""
        lower = -math.inf if self.lower is None else self.lower
        return Proximable(lower, math.inf if self.upper is None else self.upper)

    def forward(self, x: Tensor) -> Tensor:
        """0 or inf: (b, c, h, w) -> (b,)."""
        return self.term().value(x)

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """An interval that meets the box."""
        box = self.term().rounded(y.dtype)
        return lower.clamp_max(box.upper), upper.clamp_min(box.lower)
