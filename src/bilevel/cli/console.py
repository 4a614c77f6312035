"""Where words go: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console

from bilevel.ground.errors import InputError

__all__ = ["check_writable", "error", "results", "say"]

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
