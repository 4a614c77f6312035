"""Where a key stands in a TOML text, so that an error can name its line."""

from __future__ import annotations

import re

__all__ = ["line_of"]

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    r"""The line of a key, or of the table around it; None if neither stands in the text.

    Example:
        >>> line_of("[data]\nsize = 3", ("data", "size")), line_of("[data]", ("data", "size"))
        (2, 1)
    """
    lines = _lines(text)
    found = (lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines)
    return next(found, None)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            path = table + _parts(key[1])
            for n in range(1, len(path) + 1):
                lines.setdefault(path[:n], number)
    return lines


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))
