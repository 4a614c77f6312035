"""Packages that are not always there."""

from __future__ import annotations

import importlib
from typing import Any

from bilevel.ground.errors import InputError

__all__ = ["load"]


def load(module: str, what: str, extra: str) -> Any:
    """The module, imported when it is needed.

    Raises:
        InputError: it is not installed; says what to install.

    Example:
        >>> load("math", "the sine", "maths").sin(0.0)
        0.0
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        advice = f"install it with: pip install 'bilevel[{extra}]'"
        given = f"no module named '{error.name}'"
        raise InputError(f"{what} needs a package", given=given, advice=advice) from error
