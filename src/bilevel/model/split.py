"""An energy taken apart at its data: f + h + Σ_j F_j(A_j x)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators import Identity
from bilevel.model.proximable import Distance, Proximable
from bilevel.model.smooth import Smooth, SmoothSum
from bilevel.model.term import Function

__all__ = ["Split", "as_norm"]


@dataclass(frozen=True)
class Split:
    """Smooth f, ``proximable`` h with a proximal map (None if zero), ``dual`` norms F_j of A_j x.

    ``lower`` and ``upper`` (b, 1, 1, 1) bound the pixels of some minimiser; None if unknown.
    """

    smooth: Smooth
    proximable: Proximable | None = None
    dual: tuple[GroupNorm, ...] = ()
    lower: Tensor | None = None
    upper: Tensor | None = None

    def value(self, x: Tensor) -> Tensor:
        """J(x), (b,)."""
        value = self.smooth.value(x)
        if self.proximable is not None:
            value = value + self.proximable.value(x)
        return sum((term.value(term.forward(x)) for term in self.dual), value)

    @staticmethod
    def of(
        functions: Iterable[Function], dtype: torch.dtype, lower: Tensor, upper: Tensor
    ) -> Split:
        """From all functions of an energy; (b,) bounds of the pixels.

        At most one absolute value has a proximal map together with a box; further ones become
        dual terms.
        """
        smooth: list[Smooth] = []
        dual: list[GroupNorm] = []
        proximable: Proximable | None = None
        for part in functions:
            if isinstance(part, Smooth):
                smooth.append(part)
            elif isinstance(part, GroupNorm):
                dual.append(part)
            elif proximable is None:
                proximable = part.rounded(dtype)
            elif proximable.distance is None or part.distance is None:
                proximable = proximable.meet(part, dtype)
            else:
                dual.append(as_norm(part.distance))
                proximable = proximable.meet(replace(part, distance=None), dtype)
        first, last = (end[:, None, None, None] for end in (lower, upper))
        return Split(SmoothSum(tuple(smooth)), proximable, tuple(dual), first, last)


def as_norm(distance: Distance) -> GroupNorm:
    """w ‖x - c‖₁ as a dual term; without a shift where c is the number 0."""
    centre = distance.centre
    shift = centre if centre.ndim or bool(centre != 0) else None
    return GroupNorm(Identity(), distance.weight, shift=shift)
