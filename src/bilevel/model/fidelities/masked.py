"""A fidelity whose data bring their own mask: which pixels, lines or angles each sample has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.theta import bind
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.operators.operator import Interval, Operator, Shape
from bilevel.model.part import accounted_under
from bilevel.model.preconditioner import Stencil

__all__ = ["Masked"]

_SLACK = 1 + 1e-12


class Masked(Fidelity):
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
        super().__init__()
        _check(fidelity)
        self.fidelity, self.degree = fidelity, fidelity.degree
        self.operator = _Beside(fidelity.operator)

    @staticmethod
    def data(y: Tensor, mask: Tensor) -> Tensor:
        """Measurements (b, c', h', w') with their masks, of the same shape or broadcast to it.

        Raises:
            InputError: masks that do not fit.
        """
        try:
            found = mask.to(y).expand_as(y)
        except RuntimeError as error:
            given = tuple(mask.shape)
            raise InputError(f"masks must fit data {tuple(y.shape)}", given=given) from error
        return torch.cat([y, found], 1)

    def _parted(self, y: Tensor) -> tuple[Fidelity, Tensor]:
        """The fidelity of those rows, and what was measured."""
        measured, mask = y.chunk(2, 1)
        twin = bind(self.fidelity, {})
        twin.operator = _RowMasked(twin.operator, mask)
        return twin, measured

    def check(self, y: Tensor) -> None:
        """As for the fidelity; and every row must see something."""
        super().check(y)
        measured, mask = y.chunk(2, 1)
        self.fidelity.check(measured)
        blind = torch.nonzero(~mask.flatten(1).any(1)).flatten()
        if len(blind):
            given = f"masks of zeros in rows {blind.tolist()}"
            advice = "the second half of the channels of y holds the masks, see Masked.data"
            raise InputError("every row must see something", given=given, advice=advice)

    def start(self, y: Tensor) -> Tensor:
        """That of the fidelity, of what is seen."""
        fidelity, measured = self._parted(y)
        return fidelity.start(measured)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Ψ(m ⊙ A x; y), (b,)."""
        fidelity, measured = self._parted(y)
        return fidelity.forward(x, measured)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """Aᵀ(m ⊙ ∇Ψ)."""
        fidelity, measured = self._parted(y)
        return fidelity.grad(x, measured)

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        fidelity, measured = self._parted(y)
        return fidelity.value_and_grad(x, measured)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """Aᵀ m ∇²Ψ m A, row by row."""
        fidelity, measured = self._parted(y)
        whole = fidelity.hessian(x, measured)
        return LinearMap(whole, lambda index: self.hessian(x[index], y[index]))

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap | None:
        """That of the fidelity, row by row."""
        fidelity, measured = self._parted(y)
        whole = fidelity.majoriser(x, measured)
        if whole is None:
            return None

        def some(index: Tensor) -> LinearMap:
            found = self.majoriser(x[index], y[index])
            assert found is not None
            return found

        return LinearMap(whole, some)

    def stencils(self, x: Tensor, y: Tensor) -> list[Stencil] | None:
        """Those of the fidelity, with m² at every datum."""
        fidelity, measured = self._parted(y)
        return fidelity.stencils(x, measured)

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """Of each row, with its own mask."""
        return _joined([self._bounds(image_shape, row[None]) for row in y])

    def _bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        fidelity, measured = self._parted(y)
        return fidelity.bounds(image_shape, measured).for_rows(measured)

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """That of the fidelity, with the largest weight of all masks."""
        fidelity, measured = self._parted(y)
        return fidelity.variation(x, measured, q, radius)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """That of the fidelity, with the largest weight of all masks."""
        fidelity, measured = self._parted(y)
        return fidelity.smoothness(x, measured, radius)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """That of the fidelity, with the largest weight of all masks."""
        fidelity, measured = self._parted(y)
        return fidelity.magnitude(image_shape, measured)

    def accounted(self) -> frozenset[str]:
        """What the fidelity accounts for; its operator is known under two names."""
        own = accounted_under("fidelity", self.fidelity)
        return own | accounted_under("operator", self.operator)

    def options(self) -> dict[str, object]:
        """The fidelity."""
        return {"fidelity": self.fidelity}


def _check(fidelity: object) -> None:
    if not isinstance(fidelity, Fidelity):
        what = "masks come with the data of a smooth fidelity"
        raise InputError(what, given=type(fidelity).__name__)


def _joined(bounds: Sequence[Bounds]) -> Bounds:
    """Of all rows, one after the other."""
    mu, lipschitz = torch.cat([b.mu for b in bounds]), torch.cat([b.lipschitz for b in bounds])
    return replace(bounds[0], mu=mu, lipschitz=lipschitz)


class _After(Operator):
    """What follows another operator on the same images."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.inner = operator

    @property
    def roundings(self) -> float:
        """One more."""
        return self.inner.roundings + 1

    def window(self, image_shape: Shape) -> tuple[slice, slice]:
        """That of the operator."""
        return self.inner.window(image_shape)

    def accounted(self) -> frozenset[str]:
        """What the operator has."""
        return accounted_under("inner", self.inner)

    def options(self) -> dict[str, object]:
        """The operator."""
        return {"operator": self.inner}


class _Beside(_After):
    """A x, and zeros in the place of the mask: how the data of :class:`Masked` are laid out."""

    def forward(self, x: Tensor) -> Tensor:
        """(A x, 0)."""
        seen = self.inner.forward(x)
        return torch.cat([seen, torch.zeros_like(seen)], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y of the first half of the channels."""
        self.check_data(y)
        return self.inner.adjoint(y.chunk(2, 1)[0])

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Those of A."""
        return self.inner.gram_bounds(image_shape)

    def sensitivity(self, image_shape: Shape) -> float:
        """That of A."""
        return self.inner.sensitivity(image_shape)

    def image_shape(self, data_shape: Shape) -> Shape:
        """That of A; raises InputError unless there are as many channels of masks."""
        c, h, w = data_shape
        if c % 2:
            what = "data hold measurements and as many channels of masks"
            raise InputError(what, given=f"{c} channels", advice="join them with Masked.data")
        return self.inner.image_shape((c // 2, h, w))

    def data_shape(self, image_shape: Shape) -> Shape:
        """Twice as many channels as A gives."""
        c, h, w = self.inner.data_shape(image_shape)
        return (2 * c, h, w)


class _RowMasked(_After):
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
