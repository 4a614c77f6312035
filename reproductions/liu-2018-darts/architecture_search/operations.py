"""Candidate operations of an edge: what they compute and what weights they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, group_norm, max_pool2d

__all__ = ["NAMES", "OPERATIONS", "ZERO", "Operation", "normalise"]

ZERO = "zero"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """``apply(images, weights)``: (b, c, h, w) -> (b, c, h, w), with weights of ``shapes(c)``."""

    shapes: Callable[[int], tuple[Shape, ...]]
    apply: Callable[[Tensor, Sequence[Tensor]], Tensor]


def normalise(x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over all entries of a sample, (b, c, h, w).

    Batch normalisation would couple the samples; this keeps both levels finite sums.

    Example:
        >>> float(normalise(torch.arange(4.0).view(1, 1, 2, 2)).mean())
        0.0
    """
    return group_norm(x, 1)


def _convolution(size: int, dilation: int = 1) -> Operation:
    def apply(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        padding = dilation * (size // 2)
        return normalise(conv2d(torch.relu(x), weights[0], padding=padding, dilation=dilation))

    return Operation(lambda c: ((c, c, size, size),), apply)


def _separable(size: int) -> Operation:
    def apply(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        along = conv2d(torch.relu(x), weights[0], padding=size // 2, groups=x.shape[1])
        return normalise(conv2d(along, weights[1]))

    return Operation(lambda c: ((c, 1, size, size), (c, c, 1, 1)), apply)


def _free(apply: Callable[[Tensor], Tensor]) -> Operation:
    return Operation(lambda c: (), lambda x, weights: apply(x))


OPERATIONS: dict[str, Operation] = {
    "conv 3x3": _convolution(3),
    "dilated 3x3": _convolution(3, dilation=2),
    "separable 5x5": _separable(5),
    "max pool": _free(lambda x: normalise(max_pool2d(x, 3, stride=1, padding=1))),
    "average pool": _free(lambda x: normalise(avg_pool2d(x, 3, stride=1, padding=1))),
    "skip": _free(lambda x: x),
    ZERO: _free(torch.zeros_like),
}
"""The operations of the search space; the names are the columns of α."""
NAMES = tuple(OPERATIONS)
