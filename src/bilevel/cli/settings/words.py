"""What the library says of values of Python, in the notation of a TOML file."""

from __future__ import annotations

import re

__all__ = ["in_toml"]

_ITEM = r"""(?:-?(?:\d[\w.+-]*|inf)|'[^']*'|"[^"]*"|None|True|False)"""
_TUPLE = re.compile(rf"(?<!in )\(({_ITEM}(?:, {_ITEM})*,|{_ITEM}(?:, {_ITEM})+)\)")
_ARGUMENT = re.compile(r"""(?<![\w.:,])([a-z_]\w*)=(?=[\w'"\[{-])""")
_TEXT = re.compile(r"(?<=[\[ ])'([^']*)'(?=[,\]])|(?<= = )'([^']*)'")
_WORDS = {"None": "none", "True": "true", "False": "false"}


def in_toml(text: str) -> str:
    """``text`` with lists, keys and truth values as a configuration has them; none for None.

    Open intervals, as in "must lie in (0, 1)", stay what they are, and so do options of a command,
    as in "poisson:peak=50".

    Example:
        >>> in_toml("learn=('weight',) needs isotropic=True and (2, 3) knots, but got None")
        'learn = ["weight"] needs isotropic = true and [2, 3] knots, but got none'
    """
    text = _TUPLE.sub(lambda found: f"[{found[1].removesuffix(',')}]", text)
    text = _ARGUMENT.sub(r"\1 = ", text)
    text = _TEXT.sub(lambda found: f'"{found[1] or found[2] or ""}"', text)
    return re.sub(r"\b(None|True|False)\b", lambda found: _WORDS[found[1]], text)
