"""What a regulariser is: an energy R_θ(x) of the image alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Smoothness, Variation
from bilevel.model.objective import Summand
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Part, positive_parameter
from bilevel.model.preconditioner import Stencil, joined

__all__ = ["Regulariser", "Sum"]


class Regulariser(Part):
    """R_θ(x), one value a row, with closed-form derivatives and proved constants."""

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

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""

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

    def majoriser(self, x: Tensor) -> LinearMap:
        """A quadratic that touches the term at x and lies above it; its constant Hessian >= 0.

        Raises:
            InputError: the term gives none.
        """
        del x
        what = f"{type(self).__name__} gives no quadratic majoriser"
        raise InputError(what, advice="use another solver")

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """What makes up a majoriser at x, for preconditioning; None where that does not pay."""
        del x
        return None

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
        return None

    def check(self, image_shape: Shape) -> None:
        """Raise InputError if an image of that shape does not fit."""
        del image_shape

    def __add__(self, other: Regulariser) -> Sum:
        """The sum of both."""
        return Sum([self, other])


class Sum(Regulariser):
    """R_1 + R_2 + ..., zero without terms.

    Example:
        >>> from bilevel.model.regularisers import Tikhonov, TotalVariation
        >>> len((TotalVariation(0.05) + Tikhonov(1e-3)).terms)
        2
    """

    def __init__(self, terms: Sequence[Regulariser]) -> None:
        """Sum of the terms given; sums among them are taken apart."""
        super().__init__()
        flat = [t.parts if isinstance(t, Sum) else [t] for t in terms]
        self.terms = nn.ModuleList([part for parts in flat for part in parts])

    @property
    def parts(self) -> list[Regulariser]:
        """The terms."""
        return [t for t in self.terms if isinstance(t, Regulariser)]

    def forward(self, x: Tensor) -> Tensor:
        """Sum of the values."""
        return _total([t.forward(x) for t in self.parts], x[:, 0, 0, 0])

    def grad(self, x: Tensor) -> Tensor:
        """Sum of the gradients."""
        return _total([t.grad(x) for t in self.parts], x)

    def summands(self) -> tuple[Summand, ...] | None:
        """Of all terms."""
        found: tuple[Summand, ...] = ()
        for term in self.parts:
            further = term.summands()
            if further is None:
                return None
            found += further
        return found

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of both."""
        pairs = [t.value_and_grad(x) for t in self.parts]
        return _total([v for v, _ in pairs], x[:, 0, 0, 0]), _total([g for _, g in pairs], x)

    def hessian(self, x: Tensor) -> LinearMap:
        """Sum of the Hessians."""
        if not self.parts:
            return LinearMap.shared(torch.zeros_like)
        return LinearMap.sum([t.hessian(x) for t in self.parts])

    def majoriser(self, x: Tensor) -> LinearMap:
        """Sum of the majorisers."""
        return LinearMap.sum([t.majoriser(x) for t in self.parts])

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """Those of all terms, if every term has some."""
        return joined([t.stencils(x) for t in self.parts])

    def bounds(self, image_shape: Shape) -> Bounds:
        """Sum of the bounds."""
        total = Bounds.of(0.0, 0.0)
        for term in self.parts:
            total = total + term.bounds(image_shape)
        return total

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Sum of the variations."""
        total = Variation.zero(x)
        for term in self.parts:
            total = total + term.variation(x, q, radius)
        return total

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Of all terms."""
        total = Smoothness.quadratic(x)
        for term in self.parts:
            total = total + term.smoothness(x, radius)
        return total

    def check(self, image_shape: Shape) -> None:
        """Every term must fit."""
        for term in self.parts:
            term.check(image_shape)

    def options(self) -> dict[str, object]:
        """The terms."""
        return {"terms": self.parts}


def _total(values: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(values).sum(0) if values else torch.zeros_like(like)
