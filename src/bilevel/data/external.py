"""Where larger image sets lie, if they are there at all."""

from __future__ import annotations

import os
from pathlib import Path

from bilevel.ground.errors import InputError

__all__ = ["find_data"]

_VARIABLE = "BILEVEL_DATA"


def find_data(path: str | Path | None = None) -> Path | None:
    """The folder given, else the one that the environment variable BILEVEL_DATA names, else None.

    Raises:
        InputError: the folder that was named does not exist.
    """
    source = "the data folder" if path is not None else f"the folder in {_VARIABLE}"
    named = path if path is not None else os.environ.get(_VARIABLE)
    if not named:
        return None
    if not Path(named).is_dir():
        raise InputError(f"{source} does not exist", given=named)
    return Path(named)
