"""What lies in a folder of results and what it was made of: lines of JSON, one an image."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bilevel.cli.console import say
from bilevel.cli.pictures import Picture
from bilevel.ground.errors import InputError
from bilevel.report.words import plural

__all__ = [
    "RECORD",
    "Line",
    "Origin",
    "Record",
    "file_hash",
    "files_of",
    "finite",
    "from_null",
    "text_hash",
]

RECORD = "results.jsonl"
Line = dict[str, Any]
"""Of one page: ``id``, what it was made of, how that ended; see :class:`Record`."""


def file_hash(path: Path) -> str:
    """SHA-256 of what a file holds.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if missing else error.strerror
        raise InputError(f"cannot read {path}: {reason}") from error
    return digest.hexdigest()


def files_of(tables: Mapping[str, Any]) -> dict[str, str]:
    """The hashes of the files, and of those in folders, that [operator] and [fidelity] name."""
    given = [tables[name] for name in ("operator", "fidelity") if name in tables]
    named = [Path(value) for table in given for value in table.values() if isinstance(value, str)]
    found = [one for path in named for one in (path.iterdir() if path.is_dir() else [path])]
    return {str(path): file_hash(path) for path in sorted(found) if path.is_file()}


def text_hash(settings: Mapping[str, object]) -> str:
    """SHA-256 of plain data.

    Example:
        >>> text_hash({"a": 1, "b": 2}) == text_hash({"b": 2, "a": 1})
        True
    """
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def finite(value: float) -> float | None:
    """For JSON, which knows neither infinity nor nan."""
    return value if math.isfinite(value) else None


def from_null(value: float | None, missing: float = math.inf) -> float:
    """And back."""
    return missing if value is None else value


@dataclass(frozen=True)
class Origin:
    """What a result is made of: fingerprints of the file and of all settings."""

    input: str
    settings: str


class Record:
    """The lines of ``results.jsonl``; those of a file are written at once, or not at all.

    Every line names the page (``id``, ``page`` of ``pages``), the ``file`` and its ``name`` in this
    folder, ``input`` and ``settings`` (fingerprints), ``outputs`` (name -> fingerprint),
    ``status``, ``answered``, and what the command adds. The last lines of a name count.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / RECORD
        self.known: dict[str, list[Line]] = {}
        """By the name of the result."""
        self.made: set[Path] = set()
        """All results that were ever written."""
        self.finished: set[str] = set()
        """Names of results that were added, or found to be as they should."""
        self._waiting: list[Line] = []
        damaged = 0
        for text in _lines_of(self.path):
            line = _parsed(text)
            if line is None:
                damaged += 1
            else:
                self._take(line)
        if damaged:
            say(f"{self.path}: leaving aside {plural(damaged, 'line')} that cannot be read")

    @property
    def owners(self) -> dict[str, Path]:
        """The file that each name belongs to."""
        return {name: Path(lines[0]["file"]) for name, lines in self.known.items()}

    def done(self, picture: Picture, origin: Origin) -> list[Line] | None:
        """The lines of results that are there, of that file and with these settings."""
        lines = self.known.get(picture.name, [])
        if not lines or len(lines) != lines[0]["pages"] or not lines[0]["outputs"]:
            return None
        if self._difference(lines[0], origin) is not None:
            return None
        if not self._unharmed(lines[0]):
            return None
        self.finished.add(picture.name)
        return lines

    def changed(self, picture: Picture, origin: Origin) -> str | None:
        """Why results that are there are made again; None if there are none."""
        lines = self.known.get(picture.name, [])
        if not lines or not lines[0]["outputs"]:
            return None
        return self._difference(lines[0], origin) or "the result is not as it was written"

    def add(self, lines: Sequence[Line]) -> None:
        """Write the lines of one file; those of failures wait for the first result.

        Raises:
            InputError: the folder cannot be written to.
        """
        for line in lines:
            self._take(line)
        self._waiting += lines
        if not self.path.exists() and not lines[0]["outputs"]:
            return
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in self._waiting)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    text = text if file.read(1) == b"\n" else f"\n{text}"  # a line that was cut
                file.write(text.encode())
        except OSError as error:
            raise InputError(f"cannot write {self.path} ({error.strerror})") from error
        self._waiting.clear()
        self.finished |= {line["name"] for line in lines if line["outputs"]}

    def _take(self, line: Line) -> None:
        if line["page"] == 1:
            self.known[line["name"]] = []
        self.known.setdefault(line["name"], []).append(line)
        self.made |= {(self.folder / output).resolve() for output in line["outputs"]}

    def _unharmed(self, line: Line) -> bool:
        try:
            return all(
                file_hash(self.folder / name) == content
                for name, content in line["outputs"].items()
            )
        except InputError:
            return False

    @staticmethod
    def _difference(line: Line, origin: Origin) -> str | None:
        if line["settings"] != origin.settings:
            return "it was made with other settings"
        return "it was made from another file" if line["input"] != origin.input else None


_NEEDED: Mapping[str, type] = {
    "id": str,
    "name": str,
    "file": str,
    "page": int,
    "pages": int,
    "input": str,
    "settings": str,
    "outputs": dict,
    "status": str,
    "answered": bool,
}


def _lines_of(path: Path) -> Iterable[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _parsed(text: str) -> Line | None:
    try:
        data: object = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    line = cast(Line, data)
    fits = all(isinstance(line.get(key), kind) for key, kind in _NEEDED.items())
    return line if fits else None
