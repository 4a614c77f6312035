"""What a forward operator is: a linear map, its exact adjoint, proved bounds of its spectrum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from torch import Tensor

from bilevel.ground.checks import check_kind
from bilevel.ground.errors import InputError
from bilevel.model.part import Part
from bilevel.model.preconditioner import Stencil

__all__ = ["Interval", "Operator", "Shape", "check_operator"]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Interval:
    """Proved bounds: ``lower`` <= every eigenvalue of a symmetric map <= ``upper``."""

    lower: float
    upper: float


class Operator(Part, ABC):
    """A real linear map A_θ from images (b, c, h, w) to data (b, c', h', w'), one row at a time.

    Complex data are stored as pairs of real channels, so that every inner product is the plain
    sum over entries. Implementations are exact adjoints to rounding in float32 and float64.
    An operator may have parameters; its bounds are those at the values that they have when asked.
    """

    pure: ClassVar[bool] = False
    """Whether A and Aᵀ are a few plain operations on tensors, to be compiled with their use."""

    faithful: ClassVar[bool] = False
    """Whether every computed entry of A x is within 2 eps of the exact one, relative to itself."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c', h', w')."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, c', h', w') -> (b, c, h, w)."""

    @abstractmethod
    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Proved bounds of the eigenvalues of AᵀA on images of that shape (c, h, w)."""

    def sees_pixels(self) -> bool:
        """Whether every datum is one pixel as it is, or 0; False unless overridden."""
        return False

    @property
    def roundings(self) -> float:
        """How many eps a computed A x or Aᵀy may be off, relative to ‖A‖‖x‖ or ‖A‖‖y‖."""
        return 2.0

    def sensitivity(self, image_shape: Shape) -> float:
        """A proved bound s with ‖∂A/∂θ δ‖ <= s ‖δ‖ for its learnable parameters θ, at their values.

        Error bounds of hypergradients rest on it. Unless overridden: 0 where nothing is learnable,
        otherwise infinite, so that terms with this operator claim nothing.
        """
        del image_shape
        return inf if any(p.requires_grad for p in self.parameters()) else 0.0

    def gram_spectrum(self, image_shape: Shape) -> Tensor | None:
        """Eigenvalues (h, w) of AᵀA in the 2-D DFT basis, float64; None if not diagonal there."""
        del image_shape
        return None

    def gram_stencil(self, x: Tensor) -> Stencil | None:
        """AᵀA on images like ``x`` away from the border, K = A; None if it is no stencil."""
        del x
        return None

    def start(self, y: Tensor) -> Tensor:
        """A sensible first image for data y: Aᵀy over the upper bound of ‖A‖², y where A = I."""
        x = self.adjoint(y)
        upper = self.gram_bounds((x.shape[1], x.shape[2], x.shape[3])).upper
        return x / upper if upper > 0 else x

    def image_shape(self, data_shape: Shape) -> Shape:
        """The shape (c, h, w) of an image whose data have that shape."""
        return data_shape

    def data_shape(self, image_shape: Shape) -> Shape:
        """The shape of the data of such an image; raises InputError if the image does not fit."""
        return image_shape

    def window(self, image_shape: Shape) -> tuple[slice, slice]:
        """The rows and columns of the image that the data show; beyond them nothing was seen."""
        _, h, w = image_shape
        return slice(0, h), slice(0, w)

    def check_data(self, y: Tensor) -> None:
        """Raise InputError unless ``y`` (b, c', h', w') can be data of this operator."""
        given = (y.shape[1], y.shape[2], y.shape[3])
        expected = self.data_shape(self.image_shape(given))
        if expected != given:
            raise InputError(
                f"{type(self).__name__} expects data (c, h, w) = {expected}", given=given
            )

    def arranged(self, weights: Tensor) -> Tensor:
        """Weights (h', w') of data as one looks at them: frequency zero in the middle, say."""
        return weights

    def accounted(self) -> frozenset[str]:
        """The parameters that :meth:`sensitivity` knows; who overrides that names them here."""
        return frozenset()

    def __matmul__(self, first: Operator) -> Operator:
        """``self @ first``: apply ``first``, then ``self``."""
        from bilevel.model.operators.composition import Composition

        return Composition(self, first)

    def __add__(self, other: Operator) -> Operator:
        """``self + other``: the sum of what both give."""
        from bilevel.model.operators.combined import Added

        return Added([self, other])

    def __rmul__(self, factor: float) -> Operator:
        """``factor * self``."""
        from bilevel.model.operators.combined import Scaled

        return Scaled(self, factor)


DERIVE = "derive a class from bilevel.operators.Operator with forward, adjoint and gram_bounds"


def check_operator(value: object, name: str = "operator", advice: str = DERIVE) -> Operator:
    """``value`` if it is an operator.

    Raises:
        InputError: anything else, functions and objects with a forward method among them.
    """
    return check_kind(value, Operator, name, advice)
