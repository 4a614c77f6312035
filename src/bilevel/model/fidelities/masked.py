"""A fidelity whose data bring their own mask: which pixels, lines or angles each sample has."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.fidelities.accompanied import Accompanied, After
from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.operators.operator import Interval, Operator, Shape
from bilevel.model.preconditioner import Stencil

__all__ = ["Masked", "RowMasked", "beside", "check_masks", "check_seeing"]

_SLACK = 1 + 1e-12


class Masked(Accompanied):
    """A fidelity of m ⊙ A x, with a mask m for each sample, which comes with its data.

    Ψ(m_k ⊙ A x; y_k) in row k. Data are (b, 2c', h', w'): the measurement y_k of m_k ⊙ A x, then
    m_k, booleans as 0 and 1 or weights [1]; :meth:`data` joins them. So each sample of a problem
    keeps its mask, in whatever batch it comes. y_k should be 0 where nothing is seen.

    Args:
        fidelity: Ψ with its operator A, e.g. ``SquaredL2(FourierMask(torch.ones(h, w)))``.

    Raises:
        InputError: something that is no smooth fidelity; later data without a channel of masks for
            each of measurements, or a sample that sees nothing.

    Example:
        >>> from bilevel.model.fidelities import SquaredL2
        >>> masked = Masked(SquaredL2())
        >>> x, mask = torch.ones(1, 1, 1, 2), torch.tensor([[[[True, False]]]])
        >>> masked(x, masked.data(0 * x, mask))
        tensor([0.5000])
    """

    def __init__(self, fidelity: Fidelity) -> None:
        super().__init__(fidelity, "masks")

    @staticmethod
    def data(y: Tensor, mask: Tensor) -> Tensor:
        """Measurements (b, c', h', w') with their masks, of the same shape or broadcast to it.

        Raises:
            InputError: masks that do not fit.
        """
        return torch.cat([y, beside(mask, y)], 1)

    def operator_of(self, operator: Operator, *own: Tensor) -> Operator:
        """m_k ⊙ A."""
        (mask,) = own
        return RowMasked(operator, mask)

    def check_own(self, *own: Tensor) -> None:
        """Every row must see something."""
        (mask,) = own
        check_masks(mask)


def beside(mask: Tensor, y: Tensor) -> Tensor:
    """Masks in the shape of data y that they fit.

    Raises:
        InputError: they do not.
    """
    try:
        return mask.to(y).expand_as(y)
    except RuntimeError as error:
        given = tuple(mask.shape)
        raise InputError(f"masks must fit data {tuple(y.shape)}", given=given) from error


def check_seeing(block: Tensor, what: str, name: str, advice: str) -> None:
    """Raise InputError for rows in which a block is 0 everywhere."""
    blind = torch.nonzero(~block.flatten(1).any(1)).flatten()
    if len(blind):
        raise InputError(what, given=f"{name} of zeros in rows {blind.tolist()}", advice=advice)


def check_masks(mask: Tensor) -> None:
    """Raise InputError for rows whose mask is 0."""
    advice = "the last block of channels of y holds the masks, see the method data"
    check_seeing(mask, "every row must see something", "masks", advice)


class RowMasked(After):
    """m_k ⊙ A x in row k; ``weights`` m (b, c', h', w')."""

    def __init__(self, operator: Operator, weights: Tensor) -> None:
        super().__init__(operator)
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        """m ⊙ A x."""
        return self.weights * self.inner.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ(m ⊙ y)."""
        return self.inner.adjoint(self.weights * y)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Extremes of m² over all rows times those of AᵀA."""
        squares, inner = self.weights.double().square(), self.inner.gram_bounds(image_shape)
        lower, upper = float(squares.min()) * inner.lower, float(squares.max()) * inner.upper
        return Interval(lower / _SLACK, upper * _SLACK)

    def sensitivity(self, image_shape: Shape) -> float:
        """At most max |m| times that of A."""
        inner = self.inner.sensitivity(image_shape)
        return float(self.weights.abs().max()) * inner * _SLACK if inner > 0 else 0.0

    def gram_stencil(self, x: Tensor) -> Stencil | None:
        """That of A with m² at every datum."""
        found = self.inner.gram_stencil(x)
        return None if found is None else found.times(self.weights.detach().square())

    def image_shape(self, data_shape: Shape) -> Shape:
        """That of A."""
        return self.inner.image_shape(data_shape)

    def data_shape(self, image_shape: Shape) -> Shape:
        """That of A."""
        return self.inner.data_shape(image_shape)
