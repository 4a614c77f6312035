"""Where words go: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import typer
from rich.console import Console

from bilevel.ground.errors import InputError

__all__ = ["UNANSWERED", "check_writable", "error", "finish", "results", "say"]

UNANSWERED = 3
"""Exit code of work that was done and written, but did not find what was asked for."""

_WIDTH = 110


def results() -> Console:
    """Standard output, wide enough for tables where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def say(message: str, end: str = "\n") -> None:
    """One line of progress on standard error."""
    sys.stderr.write(message + end)
    sys.stderr.flush()


def error(message: str) -> None:
    """The one line that says why a command failed."""
    say(f"error: {' '.join(message.split())}")


def finish(missing: Iterable[str]) -> None:
    """The end of a command: one line for each thing that was asked for and not found.

    Raises:
        typer.Exit: with code 3 if there is any.
    """
    lines = list(dict.fromkeys(missing))
    for line in lines:
        say(f"not answered: {line}")
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
