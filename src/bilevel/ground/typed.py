"""What files say, checked where it comes in: valid JSON, and arguments of the right types."""

from __future__ import annotations

import inspect
import json
import math
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import is_dataclass
from numbers import Integral, Real
from typing import (
    Any,
    Literal,
    Protocol,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from torch import Tensor

from bilevel.ground.errors import InputError, nearest

__all__ = ["fits", "hints", "made", "parsed", "table"]

T = TypeVar("T")
DEEPEST = 50
"""Levels of nesting that no description of an energy or a state comes near."""


def parsed(text: str | bytes) -> Any:
    """The JSON value in ``text``, without NaN, infinities or nesting without end.

    Raises:
        InputError: anything else.

    Example:
        >>> parsed('{"weight": [0.5]}')
        {'weight': [0.5]}
    """
    try:
        value = json.loads(text, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InputError(f"no valid JSON ({error})") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise InputError(f"JSON nested deeper than {DEEPEST} levels")
    return value


def table(value: object, what: str) -> dict[str, Any]:
    """``value`` if it is a JSON object.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, dict):
        raise InputError(f"{what} must be a table", given=_short(value))
    return cast(dict[str, Any], value)


def made(cls: type[T], values: object, what: str) -> T:
    """``cls(**values)`` after a check of names and types; the one place where files make objects.

    Annotations that cannot be resolved, of classes inside of functions, are not checked.

    Raises:
        InputError: names that are missing or unknown, values of other types, or values that the
            class itself does not take.

    Example:
        >>> made(complex, {"real": 1.0, "imag": 2.0}, "a number")
        (1+2j)
    """
    given = table(values, what)
    parameters = inspect.signature(cls).parameters
    accepted = {name: p for name, p in parameters.items() if p.kind not in _REST}
    for name in given:
        if name not in accepted:
            raise InputError(f"{what} has no '{name}'", advice=nearest(name, accepted))
    for name, parameter in accepted.items():
        if name not in given and parameter.default is parameter.empty:
            raise InputError(f"{what} lacks its '{name}'")
    for name, hint in hints(cls).items():
        if name in given and not fits(given[name], hint):
            raise InputError(f"'{name}' of {what} has the wrong type", given=_short(given[name]))
    try:
        return cls(**given)
    except InputError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # of code that is not ours, or of values whose shapes do not go together
        raise InputError(f"{what} cannot be made of what is saved ({error})") from error


_WHOLE = (str, bytes, Mapping, Tensor)
"""What is one thing, though it has parts."""
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def fits(value: object, hint: Any) -> bool:
    """Whether ``value`` is what an annotation says.

    Integers are floats, as are tensors of one float without a dimension; lists are sequences.

    Example:
        >>> fits((1, 2.0), tuple[float, ...]), fits("1", float | None)
        (True, False)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if not isinstance(origin, type):
        return _plain(value, hint)
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(k, inner[0]) and fits(v, inner[1])
            for k, v in cast(Mapping[object, object], value).items()
        )
    if issubclass(origin, Collection):
        several = isinstance(value, Collection) and not isinstance(value, _WHOLE)
        return several and _each(list(cast(Collection[object], value)), inner)
    return isinstance(value, origin)


def _plain(value: object, hint: Any) -> bool:
    """For a type without arguments."""
    if hint in (float, int):
        kind = Real if hint is float else Integral
        if isinstance(value, Tensor):
            return hint is float and value.ndim == 0 and value.is_floating_point()
        number = not isinstance(value, bool) and isinstance(value, kind)
        return number and _represented(cast(float, value))
    if hint is None or hint is type(None):
        return value is None
    unknown = hint is Any or not isinstance(hint, type)
    if unknown or (Protocol in hint.__mro__ and not hint.__dict__.get("_is_runtime_protocol")):
        return True
    return isinstance(value, cast(type[object], hint))


def _each(values: Sequence[object], inner: tuple[Any, ...]) -> bool:
    if len(inner) == 1 or (len(inner) == 2 and inner[1] is Ellipsis):
        return all(fits(value, inner[0]) for value in values)
    return len(values) == len(inner) and all(map(fits, values, inner))


def _represented(value: float) -> bool:
    """Whether a number of any size is one of float64, too."""
    return not isinstance(value, int) or abs(value) <= 2**63


def hints(call: Any) -> dict[str, Any]:
    """The annotations of a class or a function; none where one cannot be resolved."""
    constructor = isinstance(call, type) and not is_dataclass(call)
    try:
        return get_type_hints(cast(Any, call.__init__ if constructor else call))
    except NameError:
        return {}


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast(dict[str, object], value).values())
    return cast(list[object], value) if isinstance(value, list) else []


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refused(text)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."
