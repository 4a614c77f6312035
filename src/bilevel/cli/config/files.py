"""Files that a table names: kernels become rows of numbers, masks keep their absolute path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bilevel import data
from bilevel.cli.console import say
from bilevel.cli.settings.base import Unfit
from bilevel.ground.errors import InputError, shortened

__all__ = ["named", "with_files"]

_FAR = 0.5
_PART = 200


def with_files(tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The tables with what the files of [operator], sought in ``folder``, stand for.

    The mask of [data] gets its whole path.

    Raises:
        Unfit: a kernel that cannot be read, or that has no positive sum.
    """
    tables = {
        name: _with_mask(value, folder) if name == "data" else value
        for name, value in tables.items()
    }
    operator = tables.get("operator")
    if not isinstance(operator, Mapping):
        return dict(tables)
    table = dict(cast(Mapping[str, Any], operator))
    for key in ("file", "kernel"):
        if isinstance(table.get(key), str):
            named(f"operator.{key}", table[key])
    if isinstance(table.get("file"), str):
        table["file"] = str((folder / table["file"]).absolute())
    if isinstance(table.get("kernel"), str):
        try:
            table["kernel"] = _kernel(folder / table["kernel"])
        except InputError as error:
            raise Unfit("operator.kernel", str(error)) from error
    return {**tables, "operator": table}


def _with_mask(table: Any, folder: Path) -> Any:
    if not isinstance(table, Mapping):
        return table
    own = dict(cast(Mapping[str, Any], table))
    if isinstance(own.get("mask"), str):
        own["mask"] = str((folder / named("data.mask", own["mask"])).absolute())
    return own


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
    kernel = data.load_image(path, grey=True, dtype=torch.float64)[0, 0]
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
