"""Training pairs (y_k, x̃_k) in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.data.samples import Batch, Samples, check_ids
from bilevel.ground.checks import check_images, check_matching
from bilevel.ground.errors import InputError

__all__ = ["Pairs"]


@dataclass(frozen=True, eq=False)
class Pairs(Samples):
    """K samples: data ``y`` (K, c', h', w'), images ``target`` (K, c, h, w) and K different ids.

    Raises:
        InputError: rows, dtypes or devices that differ, values that are not finite, or ids that
            repeat.

    Example:
        >>> pairs = Pairs(torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2), ("a", "b", "c"))
        >>> pairs[[2, 0]].ids
        ('c', 'a')
    """

    y: Tensor
    target: Tensor
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        check_images(self.y, "y")
        check_images(self.target, "target")
        check_matching(self.y, "y", self.target, "target")
        if len(self.y) != len(self.target):
            raise InputError(
                "y and target must have one row a sample",
                given=f"{len(self.y)} and {len(self.target)} rows",
            )
        check_ids(self.ids, len(self.y))

    def batch(self, index: Tensor) -> Batch:
        """Copies of those rows."""
        return Batch(self.y[index], self.target[index])

    def data(self, index: Tensor) -> Tensor:
        """Copies of those rows of y alone."""
        return self.y[index]

    def shown(self) -> Tensor:
        """All."""
        return torch.arange(len(self))

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Pairs:
        """Some of the samples, in the order asked for; one sample is a ``Pairs`` of one row."""
        chosen = [int(k) for k in torch.arange(len(self))[index].reshape(-1)]
        return Pairs(self.y[chosen], self.target[chosen], tuple(self.ids[k] for k in chosen))

    def to(self, target: torch.device | torch.dtype | str) -> Pairs:
        """The same samples on another device or in another floating-point type."""
        return Pairs(self.y.to(target), self.target.to(target), self.ids)
