"""Whether a saved fit can be continued with a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from bilevel.cli.config import Configuration, plain, read, restore
from bilevel.cli.reconstruction import CONFIGURATION, FREE
from bilevel.ground.errors import InputError
from bilevel.learn import Fit, load

__all__ = ["difference", "resumable"]

_MISSING = object()


def resumable(configuration: Configuration, out: Path) -> Fit:
    """The fit in ``out``, if ``configuration`` is its own but for [budget] and [output].

    Raises:
        InputError: no fit, none that holds a state, or one of another configuration.
    """
    fit, advice = load(out), "learn anew without --resume"
    if fit.snapshot is None:
        raise InputError(f"the fit in '{out}' holds no state to go on from", advice=advice)
    saved: Mapping[str, Any] = fit.configuration
    if not saved:
        text = out / CONFIGURATION
        if not text.is_file():
            raise InputError(f"the fit in '{out}' holds no configuration", advice=advice)
        saved = plain(read(text).configuration)
    else:
        saved = plain(restore(saved, f"the fit in '{out}'"))
    now = plain(configuration)
    for table in (name for name in {**saved, **now} if name not in FREE):
        found = difference(saved.get(table, _MISSING), now.get(table, _MISSING))
        if found is not None:
            key, before, given = found
            what = f"--resume: the fit in '{out}' was learned with {table}{key} = {before}"
            raise InputError(what, given=given, advice=f"change it back, or {advice}")
    return fit


def difference(before: object, now: object) -> tuple[str, str, str] | None:
    """The first key (dotted) that differs, with both values; None if there is none."""
    if _is_table(before) and _is_table(now):
        old, new = cast(Mapping[str, object], before), cast(Mapping[str, object], now)
        for key in dict.fromkeys([*old, *new]):
            found = difference(old.get(key, _MISSING), new.get(key, _MISSING))
            if found is not None:
                return f".{key}{found[0]}", found[1], found[2]
        return None
    return None if _list(before) == _list(now) else ("", _said(before), _said(now))


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _list(value: object) -> object:
    return list(cast(tuple[object, ...], value)) if isinstance(value, tuple) else value


def _said(value: object) -> str:
    if value is _MISSING:
        return "nothing"
    return "a table" if _is_table(value) else repr(value)
