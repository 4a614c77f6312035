"""Keys that hold arrays: in a table a list, rows of lists or a file, often a single number too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from pydantic import GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from torch import Tensor

from bilevel.cli.settings.arrays import numbers_in
from bilevel.cli.settings.base import Settings
from bilevel.data.places import SUFFIXES, Place

__all__ = ["Numbers", "marked", "names_file", "numbers_of", "tensor_of"]

_SINGLE = {float: "a finite number, ", int: "a whole number, ", None: ""}


@dataclass(frozen=True)
class Numbers:
    """Marks a key that holds an array, or else a single number of that type.

    Tables keep what is written: lists, whose numbers are floats, or the name of a file.
    """

    single: type[float] | type[int] | None = float

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Whatever :meth:`read` takes."""
        return core_schema.no_info_plain_validator_function(self.read)

    def read(self, value: object) -> object:
        """The value of a key.

        Raises:
            PydanticCustomError: neither a number nor a list nor a file that may hold an array.

        Example:
            >>> Numbers().read([[1, 2], [3, 4]])
            [[1.0, 2.0], [3.0, 4.0]]
        """
        if names_file(value):
            return value
        if isinstance(value, list) and value:
            return _lists(cast(list[object], value))
        if self.single is not None and _is_number(cast(object, value), self.single):
            return self.single(cast(float, value))
        words = f'{_SINGLE[self.single]}a list of numbers, or a file of them such as "map.npy"'
        raise PydanticCustomError("numbers", "must be {words}", {"words": words})


def names_file(value: object) -> bool:
    """Whether a value is the name of a file that may hold an array."""
    return isinstance(value, str) and Place.of(value).suffix in SUFFIXES


def marked(field: FieldInfo) -> bool:
    """Whether a key holds an array."""
    return any(isinstance(mark, Numbers) for mark in field.metadata)


def numbers_of(settings: type[Settings]) -> Iterator[str]:
    """The keys of a table that hold arrays."""
    return (key for key, field in settings.model_fields.items() if marked(field))


def tensor_of(key: str, value: object) -> Tensor | None:
    """The array that lists or a file stand for, float64; None for anything else.

    Raises:
        Unfit: a file that cannot be read, or that holds something else.
    """
    if isinstance(value, str):
        return numbers_in(key, value)
    return torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else None


def _lists(values: list[object]) -> list[object]:
    """Floats, or lists of one shape."""
    inner: list[object] = [
        _lists(cast(list[object], v)) if isinstance(v, list) else _float(v) for v in values
    ]
    shapes = {_shape(one) for one in inner}
    if len(shapes) > 1 or (0,) in shapes:
        raise PydanticCustomError("numbers", "must have rows of one length, none of them empty")
    return inner


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    values = cast(list[object], value)
    return (len(values), *(_shape(values[0]) if values else ()))


def _float(value: object) -> float:
    if not _is_number(value, float):
        raise PydanticCustomError("numbers", "must hold finite numbers alone")
    return float(cast(float, value))


def _is_number(value: object, kind: type) -> bool:
    kinds = (int, float) if kind is float else int
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
