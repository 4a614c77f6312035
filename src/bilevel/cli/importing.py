"""Python files of the user's: run, and blamed for what their code raises."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from bilevel.ground.errors import InputError

__all__ = ["blamed", "run_file"]

_PREFIX = "bilevel_parts_"


def run_file(path: Path) -> ModuleType:
    """What a Python file defines.

    Raises:
        InputError: no such file, one that is no Python, or one that raises anything itself.
    """
    if not path.is_file():
        raise InputError(f"--import: there is no file '{path}'")
    name = f"{_PREFIX}{path.resolve().stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--import takes Python files, such as parts.py, but got '{path}'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the types of their fields
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        where = path if error.lineno is None else f"{path}, line {error.lineno}"
        raise InputError(f"{where}: {error.msg}") from error
    except (Exception, SystemExit) as error:  # it may raise whatever it likes
        raise InputError(blamed(error) or f"{path}: {error}") from error
    return module


def blamed(error: BaseException) -> str | None:
    """The file of the user's and the line that an error came through, and what it says.

    None where none of them had a part in it.
    """
    own = {getattr(m, "__file__", None) for n, m in sys.modules.items() if n.startswith(_PREFIX)}
    frames = traceback.extract_tb(error.__traceback__)
    found = [frame for frame in frames if frame.filename in own]
    if not found:
        return None
    words = " ".join(str(error).split())
    return f"{found[-1].filename}, line {found[-1].lineno}: {type(error).__name__}: {words}"
