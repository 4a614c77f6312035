"""States as plain data and tensors, and back: nothing is imported or run because a file says so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, cast

from torch import Tensor

from bilevel.ground.errors import InputError, nearest

__all__ = ["Packable", "pack", "unpack"]


class Packable:
    """A dataclass or enumeration that :func:`pack` may meet; found again by its name.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Place(Packable):
        ...     x: Tensor
        ...     t: int
        >>> plain, tensors = pack(Place(Tensor([1, 1]), 3))
        >>> unpack(plain, tensors)
        Place(x=tensor([1., 1.]), t=3)
    """


def pack(value: object) -> tuple[Any, dict[str, Tensor]]:
    """JSON-able data without infinities or nan, and the tensors that it names.

    Raises:
        InputError: something that is not made of numbers, words, tensors and ``Packable``.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(value, tensors), tensors


def unpack(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of :func:`pack`; tensors are copies.

    Raises:
        InputError: an unknown class, or tensors or fields that are missing.
    """
    if isinstance(plain, list):
        return tuple(unpack(v, tensors) for v in cast(list[Any], plain))
    if not isinstance(plain, dict):
        return plain
    entry = cast(dict[str, Any], plain)
    if "tensor" in entry:
        return _find(tensors, entry["tensor"]).clone()
    if "number" in entry:
        return float(entry["number"])
    if "dict" in entry:
        return {k: unpack(v, tensors) for k, v in entry["dict"].items()}
    return _rebuilt(entry, tensors)


def _pack(value: object, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, list | tuple):
        return [_pack(v, tensors) for v in cast(list[Any], value)]
    if isinstance(value, dict):
        entries = cast(dict[str, Any], value)
        return {"dict": {k: _pack(v, tensors) for k, v in entries.items()}}
    if isinstance(value, Packable):
        return _described(value, tensors)
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(
        f"a {type(value).__name__} cannot be saved", advice="derive it from bilevel's Packable"
    )


def _described(value: Packable, tensors: dict[str, Tensor]) -> dict[str, Any]:
    name = type(value).__name__
    if isinstance(value, Enum):
        return {"type": name, "member": value.name}
    inner = {f.name: _pack(getattr(value, f.name), tensors) for f in fields(cast(Any, value))}
    return {"type": name, "fields": inner}


def _rebuilt(entry: dict[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    known = {cls.__name__: cls for cls in _subclasses(Packable)}
    name = str(entry.get("type"))
    if name not in known:
        raise InputError(f"unknown state '{name}'", advice=nearest(name, known))
    make = cast(Any, known[name])
    if "member" in entry:
        return make[entry["member"]]
    return make(**{k: unpack(v, tensors) for k, v in entry["fields"].items()})


def _find(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise InputError(f"the saved tensor '{name}' is missing")
    return tensors[name]


def _subclasses(root: type[Packable]) -> Iterator[type[Packable]]:
    for cls in root.__subclasses__():
        yield cls
        yield from _subclasses(cls)
