"""The tables of the configuration page, made of the catalogue.

``python -m bilevel.cli.reference docs/configuration.md`` writes them anew, between the lines
``<!-- table: KIND -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

from pydantic.fields import FieldInfo

from bilevel.cli.catalogue import CATALOGUE, about, name_of, parameters
from bilevel.cli.config.configuration import Configuration
from bilevel.cli.settings.base import Settings
from bilevel.cli.settings.numbers import marked

__all__ = ["default_of", "meaning_of", "refreshed"]


def default_of(field: FieldInfo) -> str:
    """A default as it stands in a configuration."""
    if field.is_required():
        return "(required)"
    if isinstance(field.default, Settings):
        return f'{{ name = "{name_of(field.default)}" }}'
    return "(none)" if field.default is None else json.dumps(field.default)


def meaning_of(field: FieldInfo) -> str:
    """What a key means, its values if there are a few only, and whether it takes many numbers."""
    literal = next(_literals(field.annotation), ())
    values = " or ".join(json.dumps(value) for value in literal)
    array = "numbers as a list or a file" if marked(field) else ""
    return ", ".join(filter(None, [field.description, values, array]))


def refreshed(page: str) -> str:
    """A page whose tables are those of the catalogue."""

    def block(found: re.Match[str]) -> str:
        kind = found[1]
        lines = _entries(kind) if kind in CATALOGUE else _keys(kind)
        return "\n".join([f"<!-- table: {kind} -->", *lines, "<!-- end -->"])

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", block, page, flags=re.DOTALL)


def _entries(kind: str) -> Iterator[str]:
    """The entries with their keys, then what the keys mean, once where they mean the same."""
    entries = CATALOGUE[kind]
    yield from ("| `name` | | keys |", "| --- | --- | --- |")
    meanings: dict[tuple[str, str], list[str]] = {}
    for name, entry in entries.items():
        keys: list[str] = []
        for key, field in parameters(entry).items():
            keys.append(f"`{key}`" if field.is_required() else f"`{key} = {default_of(field)}`")
            meanings.setdefault((key, meaning_of(field)), []).append(name)
        yield f"| `{name}` | {_cell(about(entry))} | {_cell(', '.join(keys))} |"
    if meanings:
        yield from ("", "| key | of | meaning |", "| --- | --- | --- |")
    takers = sum(bool(parameters(entry)) for entry in entries.values())
    for (key, meaning), names in meanings.items():
        of = "all" if len(names) == takers > 1 else ", ".join(f"`{name}`" for name in names)
        yield f"| `{key}` | {of} | {_cell(meaning)} |"


def _keys(table: str) -> Iterator[str]:
    """The keys of a table that has no name."""
    kinds = (Configuration.model_fields[table].annotation,)
    candidates = [k for k in (*kinds, *get_args(kinds[0])) if isinstance(k, type)]
    settings = next(k for k in candidates if issubclass(k, Settings))
    yield from ("| key | default | meaning |", "| --- | --- | --- |")
    for key, field in settings.model_fields.items():
        yield f"| `{key}` | `{_cell(default_of(field))}` | {_cell(meaning_of(field))} |"


def _literals(annotation: object) -> Iterator[tuple[object, ...]]:
    if str(get_origin(annotation)) == "typing.Literal":
        yield get_args(annotation)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(refreshed(path.read_text(encoding="utf-8")), encoding="utf-8")
