"""The options of a class of the library, or of a user's, as keys of a table."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from pydantic import Field
from torch import Tensor

from bilevel.cli.settings.numbers import Numbers
from bilevel.cli.settings.words import in_toml
from bilevel.ground.errors import InputError

__all__ = ["NONE", "Kinds", "Option", "explained", "options_of", "parameters_of", "plain_words"]

PLAIN = (bool, int, float, str, object, Any, type(None))
LISTS = (list, Sequence, Collection, Iterable)
TABLES = (dict, Mapping)
NONE = "none"
"""What stands for None where leaving a key out means something else."""

Kinds = Mapping[type, Any]
"""From a class of parts to the type of the inner table that stands for one of them."""


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a constructor: its type in a TOML file, its default and what it means.

    ``default`` is ``inspect.Parameter.empty`` where one must be given.
    """

    type: Any
    default: Any
    meaning: str | None

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty

    @property
    def written(self) -> Option:
        """The same with "none" for None where leaving the key out means something else."""
        if type(None) not in get_args(self.type) or self.required or self.default is None:
            return self
        meaning = re.sub(r"\bnone\b", f'"{NONE}"', self.meaning or "")
        return Option(Union[self.type, Literal["none"]], self.default, meaning)  # noqa: UP007


def parameters_of(part: type) -> dict[str, inspect.Parameter]:
    """What the constructor takes by name."""
    found = inspect.signature(part).parameters
    return {
        name: parameter
        for name, parameter in found.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def options_of(
    part: type, given: Collection[str] = (), kinds: Kinds | None = None
) -> dict[str, Option]:
    """The options of ``part`` that a TOML file can hold, by name; those ``given`` are left out.

    Options of other types, such as modules, keep their default.

    Raises:
        InputError: an option without a default that no TOML file can hold, or a type that cannot
            be found.

    Example:
        >>> from bilevel.learn.schedules import Geometric
        >>> options_of(Geometric)["factor"].meaning
        'of each step, in (0, 1)'
    """
    hints, factories, found = _hints(part), _factories(part), dict[str, Option]()
    meanings = explained(part)
    for name, parameter in parameters_of(part).items():
        if name in given:
            continue
        hint = hints.get(name, Any)
        kind = _array(hint) or _toml(hint, kinds or {})
        if kind is not None:
            default = factories[name]() if name in factories else parameter.default
            found[name] = Option(kind, default, meanings.get(name)).written
        elif parameter.default is parameter.empty:
            advice = (
                "give it a default, or a number, text, truth value, list, table or tensor as type"
            )
            what = f"{part.__name__} needs '{name}', which a configuration cannot give"
            raise InputError(what, advice=advice)
    return found


def explained(part: type) -> dict[str, str]:
    """What the ``Args:`` of a class and of its bases say of every option, in one line each."""
    found: dict[str, str] = {}
    for base in reversed(inspect.getmro(part)):
        for text in (base.__doc__, vars(base).get("__init__", object).__doc__):
            found |= _arguments(inspect.cleandoc(text or ""))
    return found


def _arguments(text: str) -> dict[str, str]:
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", section[1], re.M) if section else []
    return {name: plain_words(meaning) for name, meaning in entries}


def plain_words(text: str) -> str:
    """Without the marks of a docstring."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", " ".join(text.split()))
    return in_toml(text.replace("``", "").removesuffix("."))


def _hints(part: type) -> dict[str, Any]:
    source = part if dataclasses.is_dataclass(part) else cast(Any, part).__init__
    try:
        return get_type_hints(source, include_extras=True)
    except NameError as error:
        advice = "import it outside of `if TYPE_CHECKING`"
        raise InputError(f"the types of {part.__name__}: {error}", advice=advice) from error


def _factories(part: type) -> dict[str, Any]:
    fields = dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()
    return {
        field.name: field.default_factory
        for field in fields
        if field.default_factory is not dataclasses.MISSING
    }


def _array(hint: Any) -> Any:
    """What holds a tensor, if that or a number is all that ``hint`` takes."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if Tensor not in members or not set(members) <= {Tensor, float, int, type(None)}:
        return None
    single = next((number for number in (float, int) if number in members), None)
    return Annotated[Any, Numbers(single)]


def _toml(hint: Any, kinds: Kinds) -> Any:
    """The type that a TOML file can give; None if there is none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if not arguments or origin is Literal:
        return hint if hint in PLAIN or origin is Literal else kinds.get(hint)
    if origin is Annotated:
        bare = _toml(arguments[0], kinds)
        return None if bare is None else Annotated[(bare, *arguments[1:])]
    inner = [_toml(argument, kinds) for argument in arguments if argument is not ...]
    if origin in (Union, types.UnionType):
        members = [member for member in inner if member is not None]
        return Union[tuple(members)] if set(members) - {type(None)} else None  # noqa: UP007
    return None if None in inner else _collection(origin, inner, ... in arguments)


def _collection(origin: Any, inner: list[Any], endless: bool) -> Any:
    if origin in TABLES:
        return dict[inner[0], inner[1]] if inner[0] is str else None
    if origin is tuple and not endless:
        return Annotated[tuple[tuple(inner)], Field(strict=False)]
    if origin in (tuple, *LISTS):
        return Annotated[tuple[inner[0], ...], Field(strict=False)]
    return None
