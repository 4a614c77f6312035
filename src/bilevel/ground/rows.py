"""Rows of a batch: the first dimension of every tensor is the row, one independent problem each."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

__all__ = ["expand", "inner", "join", "length", "norm", "norm_inf", "put", "rms", "take"]

T = TypeVar("T")


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row: (b, ...), (b, ...) -> (b,).

    Example:
        >>> inner(torch.ones(2, 3), torch.ones(2, 3))
        tensor([3., 3.])
    """
    return (a * b).flatten(1).sum(1)


def norm(a: Tensor) -> Tensor:
    """Euclidean norm of each row: (b, ...) -> (b,)."""
    return cast(Tensor, torch.linalg.vector_norm(a.flatten(1), dim=1))


def length(a: Tensor) -> Tensor:
    """Euclidean norm of each row, (b,) float64, within 32 eps of ``a``'s type.

    Squares are added in that type along the last dimension alone: over 2e7 pixels at once, float32
    loses 7e-4.
    """
    lines = cast(Tensor, torch.linalg.vector_norm(a, dim=-1))
    return cast(Tensor, torch.linalg.vector_norm(lines.double().flatten(1), dim=1))


def norm_inf(a: Tensor) -> Tensor:
    """Largest absolute value of each row: (b, ...) -> (b,)."""
    return a.flatten(1).abs().amax(1)


def rms(a: Tensor) -> Tensor:
    """Root mean square of each row: (b, ...) -> (b,), in the unit of ``a``."""
    return norm(a) / a[0].numel() ** 0.5


def expand(scalars: Tensor, like: Tensor) -> Tensor:
    """Give (b,) the trailing dimensions of ``like``, so that it multiplies row by row."""
    return scalars.reshape(-1, *[1] * (like.ndim - 1))


def take(tree: T, index: Tensor) -> T:
    """Rows ``index`` of every tensor in a dataclass or tuple, nested ones too; the rest is kept."""
    if isinstance(tree, Tensor):
        return cast(T, tree[index])
    if isinstance(tree, tuple):
        return cast(T, tuple(take(part, index) for part in cast("tuple[Any, ...]", tree)))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return cast(T, dataclasses.replace(cast(Any, tree), **_fields(tree, index)))
    return tree


def _fields(tree: object, index: Tensor) -> dict[str, Any]:
    fields = dataclasses.fields(cast(Any, tree))
    return {f.name: take(getattr(tree, f.name), index) for f in fields}


def join(parts: list[T]) -> T:
    """The rows of all parts, alike in all but their number, one after the other."""
    first = parts[0]
    if isinstance(first, Tensor):
        return cast(T, torch.cat(cast("list[Tensor]", parts)))
    if isinstance(first, tuple):
        places = zip(*cast("list[tuple[Any, ...]]", parts), strict=True)
        return cast(T, tuple(join(list(same)) for same in places))
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in dataclasses.fields(first)]
        joined = {name: join([getattr(part, name) for part in parts]) for name in names}
        return cast(T, dataclasses.replace(cast(Any, first), **joined))
    return first


def put(tree: T, index: Tensor, part: T) -> None:
    """Write the rows of ``part`` into rows ``index`` of ``tree``, in place."""
    if isinstance(tree, Tensor):
        tree[index] = cast(Tensor, part)
    elif isinstance(tree, tuple):
        pairs = zip(cast("tuple[Any, ...]", tree), cast("tuple[Any, ...]", part), strict=True)
        for own, new in pairs:
            put(own, index, new)
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for field in dataclasses.fields(tree):
            put(getattr(tree, field.name), index, getattr(part, field.name))
    elif type(tree) is not type(part):
        given = type(tree).__name__, type(part).__name__
        raise TypeError(f"rows of a {given[1]} do not fit into a {given[0]}")
