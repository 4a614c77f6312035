"""Tables to settings: every problem is collected with its path, in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from bilevel.cli.catalogue import CATALOGUE, name_of
from bilevel.cli.settings.base import LARGEST, Choice, Settings, Unfit
from bilevel.cli.settings.words import in_toml
from bilevel.ground.errors import nearest, shortened

__all__ = ["Problem", "plain", "validate"]

Path = tuple[str, ...]
_OURS = {
    "Input should be": "must be",
    "Field": "it",
    "Tuple": "it",
    "List": "it",
    "Dictionary": "it",
    "a valid tuple": "a list",
    "a valid list": "a list",
    "a valid dictionary": "a table",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "an instance of": "a",
    " after validation": "",
}
"""What pydantic calls values of Python."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with the key at ``path``."""

    path: Path
    message: str


def validate(
    kind: type[Settings], table: Mapping[str, Any], problems: list[Problem], path: Path = ()
) -> Settings | None:
    """The settings in ``table``, or None and more ``problems``; inner tables come first."""
    values, broken = dict(table), set[str]()
    for name, field in kind.model_fields.items():
        inner = _inner(field)
        if inner is not None and name in values:
            values[name] = _table(field, inner, values[name], problems, (*path, name))
            if values[name] is None:
                broken.add(name)
        elif name in values and (number := _out_of_range(values[name])) is not None:
            where = (*path, name)
            message = f"numbers must lie between -{LARGEST:g} and {LARGEST:g}"
            given = _toml(number)
            problems.append(Problem(where, f"{'.'.join(where)}: {message}, but got {given}"))
            return None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            key = str(found["loc"][0]) if found["loc"] else None
            if key is None or key not in broken:  # one problem a key is enough
                problems.append(_problem(kind, key, cast(Mapping[str, Any], found), path))
                broken |= {key} if key is not None else set()
        return None


def _out_of_range(value: object) -> object:
    """The first number in a value, however nested, that is larger than any that makes sense."""
    if isinstance(value, Mapping):
        value = list(cast(Mapping[str, object], value).values())
    if isinstance(value, (list, tuple)):
        found = (_out_of_range(one) for one in cast(Iterable[object], value))
        return next((one for one in found if one is not None), None)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None  # which pydantic refuses
    return None if -LARGEST <= value <= LARGEST else value


def plain(settings: Settings) -> dict[str, Any]:
    """Plain data that :func:`validate` accepts: all values, with the names of choices."""
    name = name_of(settings)
    data: dict[str, Any] = {} if name is None else {"name": name}
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        if isinstance(value, Settings):
            data[key] = plain(value)
        elif value is not None:
            data[key] = list(cast(tuple[Any, ...], value)) if isinstance(value, tuple) else value
    return data


def _inner(field: FieldInfo) -> type[Settings] | None:
    """The class of a key that holds a table."""
    candidates = (field.annotation, *get_args(field.annotation))
    classes = (c for c in candidates if isinstance(c, type))
    return next((c for c in classes if issubclass(c, Settings)), None)


def _table(
    field: FieldInfo, kind: type[Settings], value: object, problems: list[Problem], path: Path
) -> Settings | None:
    if not isinstance(value, Mapping):
        advice = f"write [{'.'.join(path)}] on a line of its own and its keys below"
        message = f"{'.'.join(path)} must be a table, but got {_toml(value)}; {advice}"
        problems.append(Problem(path, message))
        return None
    table = dict(cast(Mapping[str, Any], value))
    choice = next((m for m in field.metadata if isinstance(m, Choice)), None)
    if choice is None:
        return validate(kind, table, problems, path)
    name, entries = table.pop("name", choice.default), CATALOGUE[choice.kind]
    if name is None:
        message = f"[{'.'.join(path)}] needs a name; {nearest('', entries)}"
        problems.append(Problem(path, message))
    elif not isinstance(name, str) or name not in entries:
        message = f"unknown {path[-1]} {_toml(name)}; {nearest(str(name), entries)}"
        problems.append(Problem((*path, "name"), message))
    else:
        return validate(entries[name], table, problems, path)
    return None


def _problem(
    kind: type[Settings], key: str | None, found: Mapping[str, Any], path: Path
) -> Problem:
    """One of pydantic's errors in our words."""
    where = path if key is None else (*path, key)
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, Unfit):
        where = (*path, *cause.key.split("."))
        return Problem(where, f"{'.'.join(where)}: {in_toml(str(cause))}")
    table = f"[{'.'.join(path)}]" if path else ""
    match found["type"]:
        case "extra_forbidden":
            return Problem(where, _unknown(where[-1], table, kind, found["input"]))
        case "missing":
            return Problem(path, _missing(where[-1], table, kind))
        case "value_error":
            return Problem(where, f"{'.'.join(where)} {in_toml(str(cause))}")
        case _:
            return Problem(where, f"{'.'.join(where)} {_wrong(found)}")


def _unknown(key: str, table: str, kind: type[Settings], value: object) -> str:
    key = shortened(key)
    if not table and isinstance(value, Mapping):
        return f"unknown table [{key}]; {nearest(key, kind.model_fields)}"
    if not kind.model_fields:
        return f"unknown key '{key}' in {table}; it takes none but 'name'"
    return (
        f"unknown key '{key}'{f' in {table}' if table else ''}; {nearest(key, kind.model_fields)}"
    )


def _missing(key: str, table: str, kind: type[Settings]) -> str:
    if table:
        about = kind.model_fields[key].description
        return f"{table} needs '{key}'{f' ({about})' if about else ''}"
    choices = [m for m in kind.model_fields[key].metadata if isinstance(m, Choice)]
    names = " or ".join(f'"{name}"' for name in CATALOGUE[choices[0].kind]) if choices else ""
    advice = f"with name = {names}" if names else "e.g. with seconds = 60"
    return f"the table [{key}] is missing; add it, {advice}"


def _wrong(found: Mapping[str, Any]) -> str:
    what = str(found["msg"])
    for theirs, ours in _OURS.items():
        what = what.replace(theirs, ours)
    if found["type"] == "too_short":
        what = "must not be empty"
    message = f"{what[:1].lower()}{what[1:]}, but got {_toml(found['input'])}"
    if found["type"] != "literal_error":
        return message
    names: Iterable[str] = re.findall(r"'([^']*)'", str(found["ctx"]["expected"]))
    advice = nearest(str(found["input"]), names)
    return f"{message}; {advice}" if advice.startswith("did") else message


def _toml(value: object) -> str:
    """A value as it stands in the file, shortened."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # dates, and whole numbers of thousands of digits
        text = str(value) if not isinstance(value, int) else "a number of thousands of digits"
    return shortened(text)
