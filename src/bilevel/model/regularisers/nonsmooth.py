"""Regularisers without a gradient: they say which simple or dual term they are."""

from __future__ import annotations

from abc import abstractmethod
from typing import NoReturn

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Variation
from bilevel.model.lengths import Lengths
from bilevel.model.operators.operator import Shape
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.simple import Simple

__all__ = ["NonSmoothRegulariser"]


class NonSmoothRegulariser(Regulariser):
    """A convex R; an energy with one is minimised by FISTA or PDHG."""

    @abstractmethod
    def term(self) -> Simple | Lengths:
        """What the solvers need to know, at the present parameters."""

    def bounds(self, image_shape: Shape) -> Bounds:
        """Convex, and no more."""
        del image_shape
        return Bounds.of(0.0, float("inf"))

    def grad(self, x: Tensor) -> Tensor:
        """Refused."""
        self._refuse()

    def hessian(self, x: Tensor) -> LinearMap:
        """Refused."""
        self._refuse()

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Refused."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        what = f"{type(self).__name__} is not smooth and has no derivative"
        raise InputError(what, advice="take a smooth regulariser, or FISTA or PDHG on energy.at(y)")
