"""A fidelity whose data bring along, row by row, what its operator needs: masks, sensitivities."""

from __future__ import annotations

from abc import abstractmethod
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

__all__ = ["Accompanied", "After"]


class Accompanied(Fidelity):
    """Ψ(A_k x; y_k) in row k, with an operator A_k of its own, which comes with the data.

    Data are (b, n c', h', w'): n blocks of channels, the measurement first, then what A_k needs.

    Args:
        fidelity: Ψ with an operator of the same shapes.
        brought: what the further blocks are, in words.

    Raises:
        InputError: something that is no smooth fidelity, or one of this kind itself; later data
            that do not come in so many blocks.
    """

    def __init__(self, fidelity: Fidelity, *brought: str) -> None:
        super().__init__()
        _check(fidelity)
        self.fidelity, self.degree = fidelity, fidelity.degree
        self.operator, self.blocks = _Beside(fidelity.operator, brought), 1 + len(brought)

    @abstractmethod
    def operator_of(self, operator: Operator, *own: Tensor) -> Operator:
        """The operator of rows from that of the fidelity and the blocks that the rows bring."""

    @abstractmethod
    def check_own(self, *own: Tensor) -> None:
        """Raise InputError for blocks that no operator can be made of."""

    def _parted(self, y: Tensor) -> tuple[Fidelity, Tensor]:
        """The fidelity of those rows, and what was measured."""
        measured, *own = y.chunk(self.blocks, 1)
        twin = bind(self.fidelity, {})
        twin.operator = self.operator_of(twin.operator, *own)
        return twin, measured

    def check(self, y: Tensor) -> None:
        """As for the fidelity; and rows must bring what an operator can be made of."""
        super().check(y)
        measured, *own = y.chunk(self.blocks, 1)
        self.fidelity.check(measured)
        self.check_own(*own)

    def compared(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A_k x and what was measured."""
        fidelity, measured = self._parted(y)
        return fidelity.compared(x, measured)

    def start(self, y: Tensor) -> Tensor:
        """Of each row as of itself alone: how large it is hangs on the norm of the operator."""
        return torch.cat([self._start(row[None]) for row in y])

    def _start(self, y: Tensor) -> Tensor:
        fidelity, measured = self._parted(y)
        return fidelity.start(measured)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Ψ(A_k x; y_k), (b,)."""
        fidelity, measured = self._parted(y)
        return fidelity.forward(x, measured)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """A_kᵀ∇Ψ."""
        fidelity, measured = self._parted(y)
        return fidelity.grad(x, measured)

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        fidelity, measured = self._parted(y)
        return fidelity.value_and_grad(x, measured)

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """A_kᵀ ∇²Ψ A_k, row by row."""
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
        """Those of the fidelity with these operators."""
        fidelity, measured = self._parted(y)
        return fidelity.stencils(x, measured)

    def bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        """Of each row, with its own operator."""
        return _joined([self._bounds(image_shape, row[None]) for row in y])

    def _bounds(self, image_shape: Shape, y: Tensor) -> Bounds:
        fidelity, measured = self._parted(y)
        return fidelity.bounds(image_shape, measured).for_rows(measured)

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """That of the fidelity, with what is largest in all rows."""
        fidelity, measured = self._parted(y)
        return fidelity.variation(x, measured, q, radius)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """That of the fidelity, with what is largest in all rows."""
        fidelity, measured = self._parted(y)
        return fidelity.smoothness(x, measured, radius)

    def magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        """Of each row, with its own operator."""
        found = [self._magnitude(image_shape, row[None]) for row in y]
        return Magnitude(torch.cat([m.slope for m in found]), torch.cat([m.offset for m in found]))

    def _magnitude(self, image_shape: Shape, y: Tensor) -> Magnitude:
        fidelity, measured = self._parted(y)
        return fidelity.magnitude(image_shape, measured).for_rows(measured)

    def accounted(self) -> frozenset[str]:
        """What the fidelity accounts for; its operator is known under two names."""
        own = accounted_under("fidelity", self.fidelity)
        return own | accounted_under("operator", self.operator)

    def options(self) -> dict[str, object]:
        """The fidelity."""
        return {"fidelity": self.fidelity}


def _check(fidelity: object) -> None:
    if not isinstance(fidelity, Fidelity) or isinstance(fidelity, Accompanied):
        what = "what comes with the data comes with those of a smooth fidelity, once"
        raise InputError(what, given=type(fidelity).__name__)


def _joined(bounds: Sequence[Bounds]) -> Bounds:
    """Of all rows, one after the other."""
    mu, lipschitz = torch.cat([b.mu for b in bounds]), torch.cat([b.lipschitz for b in bounds])
    return replace(bounds[0], mu=mu, lipschitz=lipschitz)


class After(Operator):
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


class _Beside(After):
    """A x, and zeros in the place of what comes with the data: how these are laid out."""

    def __init__(self, operator: Operator, brought: Sequence[str]) -> None:
        super().__init__(operator)
        self.brought, self.blocks = tuple(brought), 1 + len(brought)

    def forward(self, x: Tensor) -> Tensor:
        """(A x, 0)."""
        seen = self.inner.forward(x)
        return torch.cat([seen, *[torch.zeros_like(seen)] * (self.blocks - 1)], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y of the first block of channels."""
        self.check_data(y)
        return self.inner.adjoint(y.chunk(self.blocks, 1)[0])

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Those of A."""
        return self.inner.gram_bounds(image_shape)

    def sensitivity(self, image_shape: Shape) -> float:
        """That of A."""
        return self.inner.sensitivity(image_shape)

    def image_shape(self, data_shape: Shape) -> Shape:
        """That of A; raises InputError unless there are as many channels of everything."""
        c, h, w = data_shape
        if c % self.blocks:
            what = f"data hold measurements and as many channels of {' and of '.join(self.brought)}"
            advice = "join them with the method data of the fidelity"
            raise InputError(what, given=f"{c} channels", advice=advice)
        return self.inner.image_shape((c // self.blocks, h, w))

    def data_shape(self, image_shape: Shape) -> Shape:
        """So many times the channels that A gives."""
        c, h, w = self.inner.data_shape(image_shape)
        return (self.blocks * c, h, w)

    def options(self) -> dict[str, object]:
        """The operator, and what comes with the data."""
        return {**super().options(), "brought": self.brought}
