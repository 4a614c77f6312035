"""From a TOML file to a configuration, or to one sentence that says what is wrong and where."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilevel.cli.config.configuration import Configuration
from bilevel.cli.config.files import with_files
from bilevel.cli.config.lines import line_of
from bilevel.cli.config.toml import tables
from bilevel.cli.config.validation import Problem, validate
from bilevel.cli.settings.base import Unfit
from bilevel.cli.settings.words import in_toml
from bilevel.ground.errors import InputError

__all__ = ["Document", "blamed", "parse", "read", "restore", "sentence", "table_in", "text_in"]


@dataclass(frozen=True)
class Document:
    """A configuration with the text that it was read from."""

    source: str
    folder: Path
    text: str
    configuration: Configuration

    @contextmanager
    def blaming(self, key: str) -> Generator[None]:
        """Errors inside are those of ``key`` (dotted), unless they name another one."""
        try:
            yield
        except InputError as error:
            named = error.key if isinstance(error, Unfit) else key
            wrong = error if isinstance(error, Unfit) else Unfit(named, str(error))
            raise InputError(blamed(self.source, self.text, wrong)) from error


def read(path: Path) -> Document:
    """Read and check a configuration, before any other work.

    Raises:
        InputError: no such file, no TOML, or anything in it that is unknown, missing, of the
            wrong type or impossible; it names the file, the line, the key and what to do.
    """
    return parse(text_in(path), path)


def parse(text: str, path: Path) -> Document:
    """As :func:`read`, from a text; ``path`` names it, and folders in it are sought beside it."""
    try:
        table = with_files(table_in(path, text), path.parent)
    except Unfit as error:
        raise InputError(blamed(str(path), text, error)) from error
    configuration = _configuration(str(path), text, table)
    return Document(str(path), path.parent, text, configuration)


def restore(data: Mapping[str, Any], source: str) -> Configuration:
    """The configuration that ``plain`` made plain data of.

    Raises:
        InputError: data that are no configuration of this version.
    """
    return _configuration(source, "", data)


def _configuration(source: str, text: str, table: Mapping[str, Any]) -> Configuration:
    problems: list[Problem] = []
    configuration = validate(Configuration, table, problems)
    if problems or not isinstance(configuration, Configuration):
        raise InputError(sentence(source, text, problems))
    return configuration


def text_in(path: Path) -> str:
    """What a file holds."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}: it is not UTF-8 text") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def table_in(path: Path, text: str) -> dict[str, Any]:
    """The tables of a text."""
    try:
        return tables(text)
    except InputError as error:
        where = ", " if str(error).startswith("line ") else ": "
        raise InputError(f"{path}{where}{error}") from error


def blamed(source: str, text: str, error: Unfit) -> str:
    """An error of a key, and the line where it stands."""
    words = f"{error.key}: {in_toml(str(error))}"
    return sentence(source, text, [Problem(tuple(error.key.split(".")), words)])


def sentence(source: str, text: str, problems: list[Problem]) -> str:
    """The first problem in the text; the others are counted."""
    placed = [(line_of(text, p.path), p.message) for p in problems]
    line, message = min(placed, key=lambda one: one[0] or sys.maxsize)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{source}{f', line {line}' if line else ''}: {message}{more}"
