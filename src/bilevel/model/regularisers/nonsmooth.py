"""Regularisers without a gradient: they say which proximable or dual term they are."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from bilevel.model.group_norm import GroupNorm
from bilevel.model.proximable import Proximable
from bilevel.model.regularisers.regulariser import ImageTerm

__all__ = ["NonSmoothRegulariser"]


class NonSmoothRegulariser(ImageTerm):
    """An R that is convex unless it says otherwise, for FISTA, PDHG or ADMM."""

    @abstractmethod
    def term(self) -> Proximable | GroupNorm:
        """What the solvers need to know, at the present parameters."""

    def at(self, y: Tensor) -> tuple[Proximable | GroupNorm]:
        """The term, whatever the data."""
        del y
        return (self.term(),)
