"""Where words go: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console

from bilevel.ground.errors import InputError

__all__ = ["check_writable", "error", "results", "say", "write_text"]

_LEAST_WIDTH = 110


def results() -> Console:
    """Standard output; lines are not broken where it is no terminal."""
    return _console(stderr=False)


def say(message: str) -> None:
    """One line of progress on standard error."""
    print(message, file=sys.stderr, flush=True)


def error(message: str) -> None:
    """The one line that says why a command failed."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)


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


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole or not at all.

    Raises:
        InputError: the place cannot be written to.
    """
    from bilevel.report import write_page

    return write_page(path, text)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, width=_LEAST_WIDTH)
