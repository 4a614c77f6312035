"""What a regulariser is: an energy R_θ(x) of the image alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection

import torch
from torch import Tensor, nn

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Reach, Smoothness, Variation
from bilevel.model.operators.operator import Shape
from bilevel.model.part import positive_parameter, zeros_for
from bilevel.model.preconditioner import Stencil
from bilevel.model.smooth import Summand
from bilevel.model.term import BoundTerm, Term, TermSum

__all__ = ["ImageTerm", "Regulariser", "Sum"]


class ImageTerm(Term):
    """R_θ(x), one value a row, smooth or not."""

    further: int = 0
    """Channels of its own for each channel of the image: x is (b, (1 + further) c, h, w), the
    image first (2 for second-order total generalised variation, 1 for infimal convolutions)."""

    def weighted(
        self,
        weight: float | Tensor | None,
        usual: float | Tensor,
        learn: Collection[str],
        *,
        degree: int = 1,
    ) -> nn.Parameter:
        """``log_weight``, left to the data where ``weight`` is None.

        Then it is ``usual`` times what makes Ψ + w R the same problem for data c y, where
        R(c x) = c^``degree`` R(x), smoothing included.
        """
        if weight is None:
            self.leave("log_weight", fidelity=1, grey=-degree)
        return positive_parameter(usual if weight is None else weight, "weight", learn)

    def smoothed(
        self, smoothing: float | None, usual: float, learn: Collection[str]
    ) -> nn.Parameter:
        """``log_smoothing``; left to the data, ``usual`` times their contrast, if None."""
        if smoothing is None:
            self.leave("log_smoothing", grey=1)
        return positive_parameter(usual if smoothing is None else smoothing, "smoothing", learn)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""

    def check(self, image_shape: Shape) -> None:
        """Raise InputError if an image of that shape does not fit."""
        del image_shape

    def reach(self, x: Tensor, slope: Tensor) -> Reach:
        """How far ``slope`` in the further channels of x may lead there, for convex R.

        It is what certificates of the image rest on where nothing is proved of the whole state;
        unknown unless overridden.
        """
        del slope
        return Reach.nowhere(x) if self.further == 0 else Reach.unknown(x)

    def __add__(self, other: ImageTerm) -> Sum:
        """The sum of both."""
        return Sum([self, other])


class Regulariser(ImageTerm):
    """A smooth R_θ(x) with closed-form derivatives and proved constants."""

    def at(self, y: Tensor) -> tuple[BoundTerm]:
        """R, whatever the data."""
        del y
        return (BoundTerm(self),)

    @abstractmethod
    def grad(self, x: Tensor) -> Tensor:
        """∇R(x), written so that it can be differentiated with respect to the parameters."""

    def summands(self) -> tuple[Summand, ...] | None:
        """The gradient as pure functions of x; None unless overridden."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """R(x) and ∇R(x); override where both share work."""
        return self.forward(x), self.grad(x)

    @abstractmethod
    def hessian(self, x: Tensor) -> LinearMap:
        """∇²R(x), linearised once at x."""

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """As in :class:`~bilevel.model.smooth.Smooth`; None unless overridden."""
        del x

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """As in :class:`~bilevel.model.smooth.Smooth`; None unless overridden."""
        del x

    @abstractmethod
    def bounds(self, image_shape: Shape) -> Bounds:
        """Bounds of ∇²R over all images of that shape."""

    @abstractmethod
    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """How far ∇²R q, (∂_θ∇R)ᵀq and ‖∂_θ∇R‖ change within ``radius`` (b,) of x."""

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Kinks and the Lipschitz constant of ∇²R within ``radius``; unknown unless overridden."""
        del radius
        return Smoothness.unknown(x)

    def spectrum(self, image_shape: Shape) -> Tensor | None:
        """Eigenvalues (h, w) of ∇²R in the 2-D DFT basis; None if not constant and diagonal."""
        del image_shape

    def magnitude(self, image_shape: Shape) -> Magnitude:
        """Size of the terms whose sum is ∇R: at most L ‖x‖ and ‖∇R(0)‖."""
        with torch.no_grad():
            offset = rows.length(self.grad(zeros_for(self, image_shape)))
        return Magnitude(self.bounds(image_shape).lipschitz.to(offset), offset)


class Sum(TermSum[ImageTerm], ImageTerm):
    """R_1 + R_2 + ..., zero without terms.

    Example:
        >>> from bilevel.model.regularisers import Tikhonov, TotalVariation
        >>> len((TotalVariation(0.05) + Tikhonov(1e-3)).terms)
        2
    """

    kind = ImageTerm

    def forward(self, x: Tensor) -> Tensor:
        """Sum of the values."""
        values = [t.forward(x) for t in self.parts]
        return torch.stack(values).sum(0) if values else x.new_zeros(len(x))

    def check(self, image_shape: Shape) -> None:
        """Every term must fit."""
        for term in self.parts:
            term.check(image_shape)
