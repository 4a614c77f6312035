"""Training pairs (y_k, x̃_k), each with an id that it keeps wherever it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.data.noise import Noise
from bilevel.ground.checks import check_images, check_matching
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model.operators.operator import Operator

__all__ = ["Pairs", "simulate"]

_CHUNK = 32


@dataclass(frozen=True, eq=False)
class Pairs:
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
        _check_ids(self.ids, len(self.y))

    def __len__(self) -> int:
        """The number of samples K."""
        return len(self.ids)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Pairs:
        """Some of the samples, in the order asked for; one sample is a ``Pairs`` of one row."""
        chosen = [int(k) for k in torch.arange(len(self))[index].reshape(-1)]
        return Pairs(self.y[chosen], self.target[chosen], tuple(self.ids[k] for k in chosen))

    def to(self, target: torch.device | torch.dtype | str) -> Pairs:
        """The same samples on another device or in another floating-point type."""
        return Pairs(self.y.to(target), self.target.to(target), self.ids)


def simulate(
    images: Tensor,
    operator: Operator,
    noise: Noise,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Pairs:
    """Pairs y_k = A x̃_k + noise from sharp images x̃ (K, c, h, w) [grey value].

    The noise of a sample depends only on ``seed`` and its id: it stays the same in any batch and
    any order.

    Args:
        images: the ground truth.
        operator: the forward map A.
        noise: what disturbs the data.
        seed: another seed, other noise.
        ids: one a sample, all different; "0", "1", ... unless given.

    Raises:
        InputError: images that the operator or the noise cannot take, or ids that do not fit.
    """
    check_images(images, "images")
    ids = tuple(str(k) for k in range(len(images))) if ids is None else tuple(ids)
    _check_ids(ids, len(images))
    operator.data_shape((images.shape[1], images.shape[2], images.shape[3]))
    with torch.no_grad():
        clean = torch.cat([operator(x) for x in torch.split(images, _CHUNK)])
    draws = [
        noise.sample(y, generator(seed, "noise", name))
        for y, name in zip(torch.split(clean, 1), ids, strict=True)
    ]
    return Pairs(torch.cat(draws), images, ids)


def _check_ids(ids: tuple[object, ...], count: int) -> None:
    if len(ids) != count:
        raise InputError(f"{count} samples need {count} ids", given=len(ids))
    for name, times in Counter(ids).items():
        if times > 1 or not isinstance(name, str):
            given = f"{name!r} {times} times" if times > 1 else repr(name)
            raise InputError("the ids of samples must be strings, all different", given=given)
