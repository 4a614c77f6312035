"""States as plain data and tensors, and back: nothing is imported or run because a file says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, cast

from torch import Tensor

from bilevel.ground.errors import InputError, nearest
from bilevel.ground.naming import class_named, name_of_class
from bilevel.ground.typed import made, table

__all__ = ["Packable", "number", "pack", "unpack"]


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
        InputError: an unknown class, tensors or fields that are missing, or values of wrong types.
    """
    if isinstance(plain, list):
        return tuple(unpack(v, tensors) for v in cast(list[Any], plain))
    if not isinstance(plain, dict):
        return plain
    entry = cast(dict[str, Any], plain)
    if "tensor" in entry:
        return _find(tensors, entry["tensor"]).clone()
    if "number" in entry:
        return number(entry["number"])
    if "dict" in entry:
        return {k: unpack(v, tensors) for k, v in table(entry["dict"], "a saved dict").items()}
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


def number(text: object) -> float:
    """What JSON has no number for: "nan", "inf" or "-inf".

    Raises:
        InputError: any other text.
    """
    if text not in ("nan", "inf", "-inf"):
        raise InputError("a number must be one, or 'nan', 'inf' or '-inf'", given=repr(text)[:60])
    return float(cast(str, text))


def _described(value: Packable, tensors: dict[str, Tensor]) -> dict[str, Any]:
    name = name_of_class(type(value))
    if isinstance(value, Enum):
        return {"type": name, "member": value.name}
    inner = {f.name: _pack(getattr(value, f.name), tensors) for f in fields(cast(Any, value))}
    return {"type": name, "fields": inner}


def _rebuilt(entry: dict[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    name = str(entry.get("type"))
    make = class_named(name, Packable)
    if issubclass(make, Enum):
        members, member = make.__members__, str(entry.get("member"))
        if member not in members:
            raise InputError(f"{name} has no member '{member}'", advice=nearest(member, members))
        return members[member]
    inside = table(entry.get("fields"), f"the fields of {name}")
    return made(make, {k: unpack(v, tensors) for k, v in inside.items()}, name)


def _find(tensors: Mapping[str, Tensor], name: object) -> Tensor:
    if not isinstance(name, str) or name not in tensors:
        raise InputError(f"the saved tensor '{name}' is missing")
    return tensors[name]
