"""Files that a table names: kernels and angles become numbers, others keep their absolute path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bilevel.cli.catalogue import CATALOGUE
from bilevel.cli.console import say
from bilevel.cli.settings.arrays import array_in, grey_in
from bilevel.cli.settings.base import Settings, Unfit
from bilevel.cli.settings.coils import WORDS
from bilevel.cli.settings.numbers import names_file, numbers_of
from bilevel.ground.errors import InputError, shortened

__all__ = ["KINDS", "named", "with_files"]

_FAR = 0.5
_KERNELS, _NUMBERS = ("kernel", "first_kernel"), ("angles",)
_PATHS = {
    "data": ("mask",),
    "operator": ("file", "mask", "matrix", "sensitivities"),
    "fidelity": ("weights", "variance"),
    "loss": ("weights",),
    "regulariser": ("fit",),
}
KINDS = {
    **{name: f"{name}s" for name in ("operator", "noise", "regulariser", "solver", "algorithm")},
    **{"fidelity": "fidelities", "loss": "losses", "penalty": "penalties"},
    **{"criterion": "criteria", "hypergradient": "hypergradients", "rule": "rules"},
    "pretrain": "pretraining",
}
"""What of the catalogue the name in a table is sought in."""
_PART = 200


def with_files(tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The tables with what their files, sought in ``folder``, stand for.

    Kernels and angles of [operator] are read, the others, such as arrays, get their whole path.

    Raises:
        Unfit: a kernel that cannot be read, or that has no positive sum; angles that cannot.
    """
    return {
        name: _with_files(name, cast(Mapping[str, Any], table), folder)
        if isinstance(table, Mapping)
        else table
        for name, table in tables.items()
    }


def _with_files(name: str, table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    own = {
        key: _with_files(name, cast(Mapping[str, Any], value), folder)
        if isinstance(value, Mapping)
        else value
        for key, value in table.items()
    }
    read = (*_KERNELS, *_NUMBERS) if name == "operator" else ()
    paths = (*_PATHS.get(name, ()), *_arrays(name, table))
    for key in (*paths, *read):
        value = own.get(key)
        if not isinstance(value, str) or (key == "sensitivities" and value in WORDS):
            continue
        path = folder / named(f"{name}.{key}", value)
        try:
            own[key] = str(path.absolute()) if key in paths else _content(key, path)
        except InputError as error:
            raise Unfit(f"{name}.{key}", str(error)) from error
    return own


def _arrays(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a table with a name of the catalogue that hold arrays, and name files."""
    entry = CATALOGUE.get(KINDS.get(name, ""), {}).get(str(table.get("name")))
    if entry is not None and issubclass(entry, Settings):
        yield from (key for key in numbers_of(entry) if names_file(table.get(key)))


def _content(key: str, path: Path) -> object:
    if key in _KERNELS:
        return _kernel(path)
    return array_in(key, str(path), "fiu", (1,)).astype(float).tolist()


def named(key: str, path: str) -> str:
    """A path that a file system can have.

    Raises:
        Unfit: it is empty, too long, or holds what no path does.
    """
    if not path or "\0" in path or max(map(len, Path(path).parts), default=0) > _PART:
        raise Unfit(key, "must be the path of a file or folder", given=repr(shortened(path)))
    return path


def _kernel(path: Path) -> list[list[float]]:
    """A measured kernel, made to sum to one; says so, and where its centre lies."""
    kernel = grey_in(path)
    total = float(kernel.sum())
    if not total > 0:
        what = f"the values of the kernel {path.name} must have a positive sum"
        raise InputError(what, given=total)
    kernel = kernel / total
    h, w = kernel.shape
    words = f"{path.name}: a kernel of {h}x{w} pixels with centre ({h // 2}, {w // 2})"
    say(words if abs(total - 1) < 1e-6 else f"{words}, divided by its sum to sum to 1")
    row, column = _centroid(kernel)
    distance = float(torch.hypot(row - h // 2, column - w // 2))
    if distance > _FAR:
        say(
            f"warning: the mass of {path.name} lies around ({float(row):.1f}, {float(column):.1f}),"
            f" {distance:.1f} pixels from that centre: reconstructions will be shifted by as much"
        )
    return cast(list[list[float]], kernel.tolist())


def _centroid(kernel: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = (torch.arange(n, dtype=kernel.dtype) for n in kernel.shape)
    return (kernel.sum(1) * rows).sum(), (kernel.sum(0) * columns).sum()
