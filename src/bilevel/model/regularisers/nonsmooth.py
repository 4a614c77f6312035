"""Regularisers without a gradient: they say which simple or dual term they are."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from bilevel.model.lengths import Lengths
from bilevel.model.regularisers.regulariser import ImageTerm
from bilevel.model.simple import Simple

__all__ = ["NonSmoothRegulariser"]


class NonSmoothRegulariser(ImageTerm):
    """A convex R; an energy with one is minimised by FISTA or PDHG."""

    @abstractmethod
    def term(self) -> Simple | Lengths:
        """What the solvers need to know, at the present parameters."""

    def at(self, y: Tensor) -> tuple[Simple | Lengths]:
        """The term, whatever the data."""
        del y
        return (self.term(),)
