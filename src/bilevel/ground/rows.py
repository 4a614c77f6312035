"""Rows of a batch: the first dimension of every tensor is the row, one independent problem each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

__all__ = [
    "choose",
    "expand",
    "grouped_norm",
    "inner",
    "join",
    "length",
    "norm",
    "norm_inf",
    "put",
    "rms",
    "take",
]

T = TypeVar("T")

_BLOCK = 1024
_LEAST, _MOST = 1e-15, 1e15
"""Norms between which no square of a row that counts is lost in float32."""


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row: (b, ...), (b, ...) -> (b,).

    Example:
        >>> inner(torch.ones(2, 3), torch.ones(2, 3))
        tensor([3., 3.])
    """
    return (a * b).flatten(1).sum(1)


def norm(a: Tensor) -> Tensor:
    """Euclidean norm of each row: (b, ...) -> (b,); :func:`length` is for what is proved."""
    return cast(Tensor, torch.linalg.vector_norm(a.flatten(1), dim=1))


def length(a: Tensor) -> Tensor:
    """Euclidean norm of each row, (b,) float64, within 32 eps of ``a``'s type.

    Squares are added in that type over blocks alone: over 2e7 pixels at once, float32 loses 7e-4.
    Rows whose squares are too small or too large for the type are scaled first.

    Example:
        >>> length(torch.tensor([[3e-30, 4e-30], [3e30, 4e30]])).tolist()  # doctest: +ELLIPSIS
        [5.0000...e-30, 5.0000...e+30]
    """
    flat = a.flatten(1)
    found = _by_blocks(flat)
    tame = (found > _LEAST) & (found < _MOST)
    if flat.shape[1] and not bool(tame.all()):
        peak = flat.abs().amax(1, keepdim=True)
        scale = torch.where((peak > 0) & peak.isfinite(), peak, torch.ones_like(peak))
        scaled = _by_blocks(flat / scale) * scale[:, 0].double()
        found = torch.where(tame, found, scaled)
    return found


def _by_blocks(flat: Tensor) -> Tensor:
    """Norms of (b, n), float64: of blocks in the type of ``flat``, then of these."""
    count = flat.shape[1] // _BLOCK * _BLOCK
    ends = [flat[:, count:]] if count < flat.shape[1] or not count else []
    parts = [flat[:, :count].reshape(len(flat), -1, _BLOCK)] if count else []
    parts += [end[:, None] for end in ends]
    norms = [cast(Tensor, torch.linalg.vector_norm(part, dim=-1)).double() for part in parts]
    return cast(Tensor, torch.linalg.vector_norm(torch.cat(norms, 1), dim=1))


def norm_inf(a: Tensor) -> Tensor:
    """Largest absolute value of each row: (b, ...) -> (b,)."""
    return a.flatten(1).abs().amax(1)


def grouped_norm(a: Tensor, shape: Sequence[int]) -> Tensor:
    """The largest norm of the entries of ``a`` (b, ...) that one entry of that shape multiplies.

    Example:
        >>> a = torch.tensor([[[3.0, 5.0], [4.0, 0.0]]])
        >>> grouped_norm(a, ()), grouped_norm(a, (2,)), grouped_norm(a, (2, 2))
        (tensor([7.0711]), tensor([5.]), tensor([5.]))
    """
    trailing = tuple(shape) if math.prod(shape) > 1 else ()
    wide = (1,) * (a.ndim - len(trailing)) + trailing
    shared = [d for d in range(1, a.ndim) if wide[d] == 1 and a.shape[d] > 1]
    if shared:
        a = cast(Tensor, torch.linalg.vector_norm(a, dim=shared, keepdim=True))
    return norm_inf(a)


def rms(a: Tensor) -> Tensor:
    """Root mean square of each row: (b, ...) -> (b,), in the unit of ``a``."""
    return norm(a) / a[0].numel() ** 0.5


def expand(scalars: Tensor, like: Tensor) -> Tensor:
    """Give (b,) the trailing dimensions of ``like``, so that it multiplies row by row."""
    return scalars.reshape(-1, *[1] * (like.ndim - 1))


def choose(mask: Tensor, chosen: T, other: T) -> T:
    """The rows of ``chosen`` where ``mask`` (b,) holds, elsewhere those of ``other``.

    Example:
        >>> choose(torch.tensor([True, False]), torch.ones(2), torch.zeros(2))
        tensor([1., 0.])
    """

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return a if a is b else torch.where(expand(mask, a), a, b)

    return _mapped(pick, chosen, other)


def take(tree: T, index: Tensor) -> T:
    """Rows ``index`` of every tensor in a dataclass or tuple, nested ones too; the rest is kept."""

    def rows(part: Tensor) -> Tensor:
        return part[index]

    return _mapped(rows, tree)


def join(parts: list[T]) -> T:
    """The rows of all parts, alike in all but their number, one after the other."""
    return _mapped(lambda *same: torch.cat(same), *parts)


def put(tree: T, index: Tensor, part: T) -> None:
    """Write the rows of ``part`` into rows ``index`` of ``tree``, in place."""
    if isinstance(tree, Tensor):
        tree[index] = cast(Tensor, part)
    elif isinstance(tree, tuple):
        for pair in zip(cast(Any, tree), cast(Any, part), strict=True):
            put(pair[0], index, pair[1])
    elif names := _names(type(tree)):
        for name in names:
            put(getattr(tree, name), index, getattr(part, name))
    else:
        _check_alike(tree, part)


def _mapped(function: Callable[..., Tensor], tree: T, *others: T) -> T:
    """The tree of what ``function`` makes of the tensors in the same place of all trees."""
    if isinstance(tree, Tensor):
        return cast(T, function(tree, *others))
    if isinstance(tree, tuple):
        places = zip(*cast("tuple[tuple[Any, ...], ...]", (tree, *others)), strict=True)
        return cast(T, tuple([_mapped(function, *place) for place in places]))
    if names := _names(type(tree)):
        parts = {n: _mapped(function, *[getattr(t, n) for t in (tree, *others)]) for n in names}
        return _like(tree, parts)
    for other in others:
        _check_alike(tree, other)
    return tree


@cache
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass; none of anything else."""
    known = dataclasses.is_dataclass(kind)
    return tuple(field.name for field in dataclasses.fields(kind)) if known else ()


def _like(tree: T, parts: dict[str, Any]) -> T:
    """``dataclasses.replace``, faster where the class does nothing when it is made."""
    if hasattr(tree, "__post_init__") or not hasattr(tree, "__dict__"):
        return cast(T, dataclasses.replace(cast(Any, tree), **parts))
    made = object.__new__(type(tree))
    made.__dict__.update(parts)
    return made


def _check_alike(tree: object, other: object) -> None:
    if type(other) is not type(tree):
        given = type(tree).__name__, type(other).__name__
        raise TypeError(f"rows of a {given[1]} do not fit into a {given[0]}")
