"""What a fidelity is: how well A x explains the data y."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.preconditioner import Stencil
from bilevel.model.smooth import Summand
from bilevel.model.term import BoundTerm, Term, TermSum

__all__ = ["DataTerm", "Fidelities", "Fidelity"]


class DataTerm(Term):
    """Ψ_θ(A x; y), one value a row, smooth or not."""

    operator: Operator
    degree: int = 2
    """Ψ(c A x; c y) = c^degree Ψ(A x; y): in what unit weights beside it are measured."""

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Ψ(A x; y), (b,)."""

    @abstractmethod
    def start(self, y: Tensor) -> Tensor:
        """A sensible first image."""

    def compared(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A x, and the data that it is compared with."""
        return self.operator(x), y

    def check(self, y: Tensor) -> None:
        """Raise InputError unless ``y`` can be data of the operator."""
        self.operator.check_data(y)

    def __add__(self, other: DataTerm) -> Fidelities:
        """The sum of both, of the same data: mixed noise."""
        return Fidelities([self, other])


class Fidelity(DataTerm):
    """A smooth Ψ_θ(A x; y) with closed-form derivatives and proved constants."""

    def at(self, y: Tensor) -> tuple[BoundTerm]:
        """x -> Ψ(A x; y)."""
        return (BoundTerm(self, (y,)),)

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

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap | None:
        """As in :class:`~bilevel.model.smooth.Smooth`; None unless overridden."""
        del x, y

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        """As in :class:`~bilevel.model.smooth.Smooth`; None unless overridden."""
        del x, y

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

    def spectrum(self, image_shape: Shape) -> Tensor | None:
        """Eigenvalues (h, w) of the Hessian in the 2-D DFT basis; None if not diagonal there."""
        del image_shape


class Fidelities(TermSum[DataTerm], DataTerm):
    """Ψ_1 + Ψ_2 + ... of the same data, through operators that agree on the shape of images.

    The first gives start and operator.

    Raises:
        InputError: no term at all.

    Example:
        >>> import torch
        >>> from bilevel.model.fidelities import L1, SquaredL2
        >>> mixed = L1(weight=0.5) + SquaredL2()
        >>> mixed(torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)).item()
        2.0
    """

    kind = DataTerm

    def __init__(self, terms: Sequence[DataTerm]) -> None:
        """Sum of the terms given; sums among them are taken apart."""
        super().__init__(terms)
        if not terms:
            raise InputError("a sum of fidelities needs at least one")
        self.operator, self.degree = self.parts[0].operator, self.parts[0].degree

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of the values, (b,)."""
        return sum((t.forward(x, y) for t in self.parts[1:]), self.parts[0].forward(x, y))

    def start(self, y: Tensor) -> Tensor:
        """That of the first."""
        return self.parts[0].start(y)

    def compared(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """By the first."""
        return self.parts[0].compared(x, y)

    def check(self, y: Tensor) -> None:
        """Data must fit every term, and images of the first all of them."""
        shape = self.operator.image_shape((y.shape[1], y.shape[2], y.shape[3]))
        for term in self.parts:
            term.check(y)
            other = term.operator.image_shape((y.shape[1], y.shape[2], y.shape[3]))
            if other != shape:
                what = "fidelities that are added must have images of one shape"
                raise InputError(what, given=f"{shape} and {other}")
