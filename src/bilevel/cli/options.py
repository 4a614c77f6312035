"""Tables of a configuration written as one option: name:key=value,key=value."""

from __future__ import annotations

import math

from bilevel.cli.config.toml import tables
from bilevel.cli.settings.base import LARGEST, SMALLEST
from bilevel.ground.errors import InputError, shortened

__all__ = ["keys_of", "range_of", "table_of"]


def table_of(text: str, option: str) -> dict[str, object]:
    """The table that an option stands for.

    Raises:
        InputError: no name, or something that is not key=value.

    Example:
        >>> table_of("gaussian-blur:size=9,boundary=zero", "--operator")
        {'name': 'gaussian-blur', 'size': 9, 'boundary': 'zero'}
    """
    name, _, rest = text.partition(":")
    table: dict[str, object] = {"name": name.strip()}
    advice = f"write e.g. {option} gaussian-blur:size=9,sigma=1.6"
    return _filled(table, rest, f"{option} takes name:key=value,...", text, advice, option)


def keys_of(text: str, option: str) -> dict[str, object]:
    """The keys that an option without a name stands for.

    Raises:
        InputError: something that is not key=value, or a key twice.

    Example:
        >>> keys_of("offset=100,gain=0.5", "--camera")
        {'offset': 100, 'gain': 0.5}
    """
    advice = f"write e.g. {option} offset=100,gain=1,read_noise=2"
    return _filled({}, text, f"{option} takes key=value,...", text, advice, option)


def _filled(
    table: dict[str, object], keys: str, what: str, text: str, advice: str, option: str
) -> dict[str, object]:
    for part in filter(None, keys.split(",")):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not (sign and key and value):
            raise InputError(what, given=repr(shortened(text)), advice=advice)
        if key in table:
            raise InputError(f"{option} gives '{shortened(key)}' twice")
        table[key] = _value(value)
    return table


def range_of(text: str, option: str) -> tuple[float, float]:
    """The two positive numbers, the lower first, that an option stands for.

    Raises:
        InputError: anything else.

    Example:
        >>> range_of("1e-3, 10", "--span")
        (0.001, 10.0)
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not SMALLEST <= low < high <= LARGEST:
        advice = f"write e.g. {option} 1e-4,10, within {SMALLEST:g} and {LARGEST:g}"
        what = f"{option} takes two positive numbers, the lower first"
        raise InputError(what, given=repr(shortened(text)), advice=advice)
    return low, high


def _value(text: str) -> object:
    """A TOML value, or else the text itself, as for names and quotients."""
    try:
        found = tables(f"value = {text}")
    except InputError:
        return text
    return found["value"] if found.keys() == {"value"} else text
