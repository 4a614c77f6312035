"""Where words go: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

import typer
from rich.console import Console

from bilevel.ground.errors import BilevelError, InputError

__all__ = [
    "INTERRUPTED",
    "UNANSWERED",
    "check_writable",
    "error",
    "finish",
    "quiet",
    "results",
    "say",
    "speaking",
]

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
UNANSWERED = 3
"""Exit code of work that was done and written, but did not find what was asked for."""

_WIDTH = 110


@dataclass(frozen=True)
class Voice:
    """What is said, and where: ``tables`` on standard output, progress unless ``quiet``."""

    quiet: bool = False
    tables: bool = True
    log: TextIO | None = None


_VOICE = ContextVar("_VOICE", default=Voice())  # noqa: B039 - it is frozen


@contextmanager
def speaking(
    *, quiet: bool = False, tables: bool = True, log: Path | None = None
) -> Generator[None]:
    """How commands speak inside; ``log`` is a file to which all that is said is appended.

    Raises:
        InputError: the file cannot be written to.
    """
    try:
        file = None if log is None else log.open("a", encoding="utf-8")
    except OSError as problem:
        what = f"cannot write the log '{log}': {problem.strerror}"
        raise InputError(what, advice="name a file in a folder that exists") from problem
    token = _VOICE.set(Voice(quiet, tables, file))
    try:
        yield
    except BilevelError as problem:
        _note(f"error: {problem}")
        raise
    finally:
        _VOICE.reset(token)
        if file is not None:
            file.close()


def quiet() -> bool:
    """Whether progress is not to be shown."""
    return _VOICE.get().quiet


def results() -> Console:
    """Standard output, wide enough for tables where it is no terminal."""
    console = Console(highlight=False, quiet=not _VOICE.get().tables)
    if console.is_terminal:
        return console
    return Console(highlight=False, width=_WIDTH, quiet=console.quiet)


def say(message: str, end: str = "\n", *, owed: bool = False) -> None:
    """One line of progress on standard error; one that is ``owed`` even where all is quiet."""
    if end == "\n":
        _note(message)
    if owed or not quiet():
        sys.stderr.write(message + end)
        sys.stderr.flush()


def _note(message: str) -> None:
    """One line in the log, if there is one."""
    file = _VOICE.get().log
    if file is not None:
        file.write(f"{datetime.now().isoformat(' ', 'seconds')} {message.rstrip()}\n")
        file.flush()


def error(message: str) -> None:
    """The one line that says why a command failed."""
    say(f"error: {' '.join(message.split())}", owed=True)


def finish(missing: Iterable[str]) -> None:
    """The end of a command: one line for each thing that was asked for and not found.

    Raises:
        typer.Exit: with code 3 if there is any.
    """
    lines = list(dict.fromkeys(missing))
    for line in lines:
        say(f"not answered: {line}", owed=True)
    if lines:
        raise typer.Exit(UNANSWERED)


def check_writable(folder: Path) -> Path:
    """``folder`` if it is one that can be written to, or can be made; nothing is made yet.

    Raises:
        InputError: it is a file, or a file or missing permission is in the way.
    """
    advice = "choose another folder with --out"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"'{folder}' is a file, not a folder", advice=advice)
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise InputError(f"cannot make '{folder}': '{nearest}' is a file", advice=advice)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"no permission to write into '{nearest}'", advice=advice)
    return folder
