"""What a caller gives, checked against the annotations: a number where a number is asked for."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Mapping
from functools import cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin

from numpy import ndarray
from torch import Tensor

from bilevel.ground.errors import InputError, shortened
from bilevel.ground.typed import fits, hints

__all__ = ["Typed", "typed"]

_LONG = 63
"""Bits of the largest whole numbers that are taken."""
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Typed")
Call = Callable[..., object]

_WORDS: dict[object, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Tensor: "a tensor",
    type(None): "None",
}


class Typed:
    """Constructors take arguments of the types that they are annotated with, and no others.

    That concerns numbers, truth values, strings, tensors and collections of them. Of other types a
    constructor says itself what it needs, and of a string, which strings it knows.

    Raises:
        InputError: an argument of another type.

    Example:
        >>> from bilevel.model.regularisers import Tikhonov
        >>> Tikhonov("1", learn=())
        Traceback (most recent call last):
        ...
        bilevel.ground.errors.InputError: weight of Tikhonov must be a number or None, but got '1'
    """

    def __new__(cls: type[S], *args: Any, **options: Any) -> S:
        """Look at the arguments; the constructor takes them."""
        _check(cls, (None, *args), options)
        return object.__new__(cls)


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a function, and classes among its annotations too.

    Example:
        >>> @typed
        ... def twice(x: float) -> float:
        ...     return 2 * x
        >>> twice([1.0])
        Traceback (most recent call last):
        ...
        bilevel.ground.errors.InputError: x of twice must be a number, but got [1.0]
    """

    @wraps(function)
    def checked(*args: P.args, **options: P.kwargs) -> R:
        _check(function, args, options)
        return function(*args, **options)

    return checked


def _check(call: Call, args: tuple[object, ...], options: Mapping[str, object]) -> None:
    signature, plain = _signature(call)
    try:
        given = signature.bind_partial(*args, **options).arguments
    except TypeError as error:  # Python's own sentence
        raise TypeError(f"{call.__name__}: {error}") from None
    for key, hint in plain.items():
        if key in given and not _taken(given[key], hint):
            what = f"{key} of {call.__name__} must be {' or '.join(_words(hint))}"
            raise InputError(what, given=_shown(given[key]))


@cache
def _signature(call: Call) -> tuple[inspect.Signature, dict[str, Any]]:
    """Of a function or a constructor, and the annotations that are looked at."""
    made = cast(Call, call.__init__) if isinstance(call, type) else call
    signature = inspect.signature(made)
    if made is object.__init__:
        signature = signature.replace(parameters=list(signature.parameters.values())[:1])
    many = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    named = {key for key, p in signature.parameters.items() if p.kind not in many}
    found = {key: hint for key, hint in hints(call).items() if key in named}
    whole = not isinstance(call, type)
    return signature, {key: hint for key, hint in found.items() if whole or _plain(hint)}


def _plain(hint: Any) -> bool:
    """Whether a type is made of those that have words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal or hint in (..., None):
        return True
    return all(map(_plain, inner)) if inner and origin is not Callable else hint in _WORDS


def _taken(value: object, hint: Any) -> bool:
    """Whether it fits, or the constructor tells: one of some strings, numbers for a tensor."""
    members = _members(hint)
    if isinstance(value, str) and any(get_origin(one) is Literal for one in members):
        return True
    return fits(value, hint) or (Tensor in members and isinstance(value, list | tuple | ndarray))


def _members(hint: Any) -> tuple[Any, ...]:
    """Of a union, and otherwise the type alone."""
    union = get_origin(hint) in (Union, types.UnionType)
    return get_args(hint) if union else (hint,)


def _words(hint: Any) -> list[str]:
    """What the members of a union are called, None last."""
    return sorted((_word(one) for one in _members(hint)), key="None".__eq__)


def _word(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, inner))
    kind: Any = origin or hint
    if kind is Callable:
        return "a function"
    if issubclass(kind, Mapping):
        return "a dict"
    if not inner or not issubclass(kind, Collection):
        return _WORDS.get(kind) or f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}"
    several = inner[-1] is Ellipsis or len(inner) == 1
    return f"a list, each {_word(inner[0])}" if several else f"({', '.join(map(_word, inner))})"


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}, {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, int) and value.bit_length() > _LONG:
        return "one beyond 2^63"
    return shortened(repr(value)) if _is_data(value) else type(value).__name__


def _is_data(value: object) -> bool:
    """Whether it shows what it holds."""
    return value is None or isinstance(value, int | float | complex | str | bytes | Collection)
