"""Where a result comes from: configuration and versions, without paths or names of the machine."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, cast

__all__ = ["pretty", "versions"]


def versions() -> dict[str, str]:
    """Versions of what computes, and the kind of platform."""
    found = {name: _version(package) for name, package in _PACKAGES.items()}
    return {**found, "Python": platform.python_version(), "platform": _platform()}


_PACKAGES = {"bilevel": "bilevel", "PyTorch": "torch", "NumPy": "numpy", "SciPy": "scipy"}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _platform() -> str:
    return f"{platform.system()} {platform.machine()}".strip()


def pretty(configuration: Mapping[str, Any]) -> str:
    """A configuration as TOML; of absolute paths only the last name is kept.

    Example:
        >>> print(pretty({"data": {"images": "/home/me/bsd68", "sigma": 0.1}}))
        [data]
        images = "…/bsd68"
        sigma = 0.1
    """
    return "\n".join(_lines(configuration, ())).strip()


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    plain = {k: v for k, v in table.items() if not isinstance(v, Mapping)}
    if plain and path:
        yield f"[{'.'.join(path)}]"
    for key, value in plain.items():
        yield f"{key} = {_value(value)}"
    if plain:
        yield ""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _lines(cast(Mapping[str, Any], value), (*path, str(key)))


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(v) for v in cast(list[object], value))}]"
    if isinstance(value, Mapping):
        pairs = cast(Mapping[str, object], value).items()
        return f"{{ {', '.join(f'{k} = {_value(v)}' for k, v in pairs)} }}"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return json.dumps("none" if value is None else _without_place(str(value)), ensure_ascii=False)


def _without_place(text: str) -> str:
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        if path.is_absolute() or text.startswith("~"):
            return f"…/{path.name}"
    return text
