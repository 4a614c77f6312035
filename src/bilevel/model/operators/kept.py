"""Sparse matrices on disk: what took seconds to assemble is read again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["kept"]

VARIABLE = "BILEVEL_CACHE"
"""A folder, or "off"; bilevel in the user's cache folder otherwise."""
_FILES = 8
"""Kept at most; the one that was not used for longest goes."""
_PARTS = ("starts", "columns", "values", "shape", "key")


def kept(key: str, make: Callable[[], Any]) -> Any:
    """The matrix that ``make`` gives for ``key``, SciPy CSR; from disk if it was made before.

    A file is written whole or not at all, and what is read is checked: checksums, the key itself,
    and that rows and columns lie within the matrix. One that is damaged is made again; where
    nothing can be written, nothing is kept. ``BILEVEL_CACHE`` names another folder, or is "off".

    Example:
        >>> float(kept("one by one", lambda: scipy.sparse.csr_array([[2.0]])).sum())
        2.0
    """
    folder = _folder()
    if folder is None:
        return make()
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
    found = _read(path, key)
    if found is None:
        found = make()
        with contextlib.suppress(OSError):
            _write(path, key, found)
    return found


def _folder() -> Path | None:
    named = os.environ.get(VARIABLE)
    if named is not None:
        return None if named == "off" else Path(named)
    usual = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return Path(usual or Path.home() / ".cache") / "bilevel"
    except RuntimeError:  # no home
        return None


def _read(path: Path, key: str) -> Any:
    """None unless all of it is there and right."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            starts, columns, values, shape, said = (parts[name] for name in _PARTS)
        os.utime(path)
    except Exception:  # no file, or whatever a damaged one makes NumPy raise
        return None
    m, n = (int(side) for side in shape)
    fits = (
        str(said) == key
        and starts.shape == (m + 1,)
        and starts[0] == 0
        and starts[-1] == len(columns) == len(values)
        and bool((np.diff(starts) >= 0).all())
        and (not len(columns) or 0 <= columns.min() <= columns.max() < n)
        and values.dtype.kind == "f"
    )
    return scipy.sparse.csr_array((values, columns, starts), shape=(m, n)) if fits else None


def _write(path: Path, key: str, matrix: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = matrix.indptr, matrix.indices, matrix.data, np.array(matrix.shape), np.array(key)
    handle, scratch = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **dict(zip(_PARTS, parts, strict=True)))
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    files = sorted(path.parent.glob("*.npz"), key=lambda one: one.stat().st_mtime)
    for old in files[:-_FILES]:
        old.unlink(missing_ok=True)
