"""A regulariser of A x: of another picture of the image."""

from __future__ import annotations

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.composed import ComposedSmooth
from bilevel.model.operators.operator import Operator, Shape, check_operator
from bilevel.model.part import accounted_under
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.term import BoundTerm

__all__ = ["Composed", "check_smooth"]


class Composed(Regulariser):
    """A regulariser of what an operator makes of the image.

    R(x) = R_0(A x). Its parameters are those of R_0, and of A if it has any; bounds follow from
    those of R_0 and ‖A‖. About derivatives by parameters of A nothing is claimed.

    Args:
        regulariser: R_0, a smooth one.
        operator: A.

    Raises:
        InputError: something that is no smooth regulariser, or no operator.

    Example:
        >>> import torch
        >>> from bilevel.model.operators import Downsampling
        >>> from bilevel.model.regularisers import Tikhonov
        >>> Composed(Tikhonov(2.0), Downsampling(2))(torch.ones(1, 1, 4, 4)).item()
        4.0
    """

    def __init__(self, regulariser: Regulariser, operator: Operator) -> None:
        super().__init__()
        self.regulariser = check_smooth(regulariser)
        self.operator = check_operator(operator)
        self.further = regulariser.further

    @property
    def _term(self) -> ComposedSmooth:
        return ComposedSmooth(BoundTerm(self.regulariser), self.operator)

    def options(self) -> dict[str, object]:
        """Both parts."""
        return {"regulariser": self.regulariser, "operator": self.operator}

    def check(self, image_shape: Shape) -> None:
        """The operator must take the image, and the regulariser what it makes of it."""
        self.regulariser.check(self.operator.data_shape(image_shape))

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        return self._term.value(x)

    def grad(self, x: Tensor) -> Tensor:
        """Aᵀ ∇R_0(A x)."""
        return self._term.grad(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with A x computed once."""
        return self._term.value_and_grad(x)

    def hessian(self, x: Tensor) -> LinearMap:
        """Aᵀ ∇²R_0(A x) A."""
        return self._term.hessian(x)

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """That of R_0 between Aᵀ and A."""
        return self._term.majoriser(x)

    def bounds(self, image_shape: Shape) -> Bounds:
        """Times the eigenvalues of AᵀA."""
        return self._term.bounds(image_shape)

    def magnitude(self, image_shape: Shape) -> Magnitude:
        """That of R_0 at A x."""
        return self._term.magnitude(image_shape)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """That of R_0 at A x, for A q."""
        return self._term.variation(x, q, radius)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """That of R_0 at A x."""
        return self._term.smoothness(x, radius)

    def accounted(self) -> frozenset[str]:
        """What R_0 accounts for."""
        return accounted_under("regulariser", self.regulariser)


def check_smooth(regulariser: object) -> Regulariser:
    """``regulariser`` if it is a smooth one.

    Raises:
        InputError: anything else, sums and exact total variation among them.
    """
    if not isinstance(regulariser, Regulariser):
        advice = "take one with a gradient; of a sum, compose every term and add the results"
        given = type(regulariser).__name__
        raise InputError("a smooth regulariser is needed", given=given, advice=advice)
    return regulariser
