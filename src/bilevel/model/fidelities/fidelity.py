"""What a fidelity is: how well A x explains the data y."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.objective import Summand
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.part import Part
from bilevel.model.preconditioner import Stencil

__all__ = ["Fidelity"]


class Fidelity(Part):
    """Ψ_θ(A x; y), one value a row."""

    operator: Operator
    degree: ClassVar[int] = 2
    """Ψ(c A x; c y) = c^degree Ψ(A x; y): in what unit weights beside it are measured."""

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Ψ(A x; y), (b,)."""

    @abstractmethod
    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """Aᵀ∇Ψ(A x; y), differentiable in θ and y."""

    def summands(self, y: Tensor) -> tuple[Summand, ...] | None:
        """The gradient as pure functions of x; None unless overridden."""
        del y

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both; override where they share work."""
        return self.forward(x, y), self.grad(x, y)

    @abstractmethod
    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """Aᵀ∇²Ψ A, linearised once at x."""

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap:
        """A quadratic that touches the term at x and lies above it; its constant Hessian >= 0.

        Raises:
            InputError: the term gives none.
        """
        del x, y
        what = f"{type(self).__name__} gives no quadratic majoriser"
        raise InputError(what, advice="use another solver")

    def check(self, y: Tensor) -> None:
        """Raise InputError unless ``y`` can be data of the operator."""
        self.operator.check_data(y)

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        """As in :class:`~bilevel.model.regularisers.Regulariser`."""
        del x, y
        return None

    @abstractmethod
    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """Bounds of the Hessian for all x, of all rows together or of each row of ``y``."""

    @abstractmethod
    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """As in :class:`~bilevel.model.bounds.Variation`."""

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """As in :class:`~bilevel.model.bounds.Smoothness`; unknown unless overridden."""
        del y, radius
        return Smoothness.unknown(x)

    @abstractmethod
    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """Size of the terms whose sum is the gradient; rows of ``y``."""

    @abstractmethod
    def start(self, y: Tensor) -> Tensor:
        """A sensible first image."""

    def spectrum(self, image_shape: Shape) -> Tensor | None:
        """Eigenvalues (h, w) of the Hessian in the 2-D DFT basis; None if not diagonal there."""
        del image_shape
        return None
