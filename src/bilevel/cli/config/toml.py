"""The one place where TOML is read: whatever the text, tables or one error."""

from __future__ import annotations

import re
import sys
from typing import Any

from bilevel.ground.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["tables"]

_LONGEST = 10**6
_MANY_PARTS = re.compile(r"(?<![\w-])(?:[\w-]+\s*\.\s*){100}")  # which take quadratic time


def tables(text: str) -> dict[str, Any]:
    """What a TOML text says.

    Raises:
        InputError: no TOML ("line 3: this is not TOML: ..."), numbers of thousands of digits, or
            brackets nested too deeply.
    """
    advice = 'write e.g. weight = 0.05, name = "gaussian" or a table [data]'
    if len(text) > _LONGEST or _MANY_PARTS.search(text):
        what = f"a configuration has at most {_LONGEST} characters and 100 parts in a key"
        raise InputError(what, advice=advice)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error))
        what, line = (found[1], found[2]) if found else (str(error), None)
        number = line or len(text.splitlines())
        raise InputError(f"line {number}: this is not TOML: {what}", advice=advice) from error
    except RecursionError as error:
        raise InputError("brackets are nested too deeply", advice=advice) from error
    except ValueError as error:  # digits and dates that Python itself refuses
        raise InputError(f"a value is out of range: {_first(error)}", advice=advice) from error


def _first(error: ValueError) -> str:
    return re.split("[:;]", str(error))[0]
