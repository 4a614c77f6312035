"""A batch of linear maps, one a row, that can be restricted to some of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

__all__ = ["LinearMap"]


@dataclass(frozen=True)
class LinearMap:
    """Row k maps v[k] linearly. ``restrict(index)`` gives the map of those rows only.

    ``inverse``, where there is one, makes a positive definite map near the inverse: what
    conjugate gradients are preconditioned with. It is made when it is first asked for.

    Example:
        >>> scales = torch.tensor([1.0, 2.0])
        >>> double = LinearMap.per_row(lambda v, rows: scales[rows, None] * v, 2)
        >>> double.rows(torch.tensor([1]))(torch.ones(1, 3))
        tensor([[2., 2., 2.]])
    """

    apply: Callable[[Tensor], Tensor]
    restrict: Callable[[Tensor], LinearMap]
    inverse: Callable[[], LinearMap] | None = None

    def __call__(self, v: Tensor) -> Tensor:
        """Apply to every row: (b, ...) -> (b, ...)."""
        return self.apply(v)

    def rows(self, index: Tensor) -> LinearMap:
        """The map of the rows ``index`` (integers) alone."""
        return self.restrict(index)

    def with_inverse(self, inverse: Callable[[], LinearMap]) -> LinearMap:
        """The same with an approximate inverse."""
        once = cache(inverse)

        def restrict(index: Tensor) -> LinearMap:
            return self.rows(index).with_inverse(lambda: once().rows(index))

        return LinearMap(self.apply, restrict, once)

    def without_inverse(self) -> LinearMap:
        """The same without an approximate inverse."""
        return LinearMap(self.apply, lambda index: self.rows(index).without_inverse())

    def times(self, factor: Tensor) -> LinearMap:
        """``factor`` times the map: one for all rows (), or one each (b, 1, ...).

        Example:
            >>> double = LinearMap.shared(lambda v: v).times(torch.tensor(2.0))
            >>> double(torch.ones(1, 2))
            tensor([[2., 2.]])
        """

        def restrict(index: Tensor) -> LinearMap:
            return self.rows(index).times(factor[index] if factor.ndim else factor)

        return LinearMap(lambda v: factor * self.apply(v), restrict)

    @staticmethod
    def shared(apply: Callable[[Tensor], Tensor]) -> LinearMap:
        """The same plain callable for any number of rows."""
        return LinearMap(apply, lambda index: LinearMap.shared(apply))

    @staticmethod
    def sum(maps: Sequence[LinearMap]) -> LinearMap:
        """The sum of several maps of the same rows."""

        def apply(v: Tensor) -> Tensor:
            total = maps[0](v)
            for further in maps[1:]:
                total = total + further(v)
            return total

        return LinearMap(apply, lambda index: LinearMap.sum([m.rows(index) for m in maps]))

    @staticmethod
    def per_row(apply: Callable[[Tensor, Tensor], Tensor], batch: int) -> LinearMap:
        """From ``apply(v, rows)`` where ``rows`` are the original numbers of the rows of ``v``."""

        def of(rows: Tensor) -> LinearMap:
            def restrict(index: Tensor) -> LinearMap:
                return of(rows.to(index.device)[index])

            return LinearMap(lambda v: apply(v, rows), restrict)

        return of(torch.arange(batch))
