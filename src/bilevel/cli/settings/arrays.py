"""Arrays that a table names by a file."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]
import torch
from numpy.typing import NDArray
from torch import Tensor

from bilevel.cli.settings.base import Unfit
from bilevel.data import load_image
from bilevel.ground.errors import InputError

__all__ = ["array_in", "black_and_white", "matrix_in", "shape_of"]

Array = NDArray[Any]
_KEPT = 2


def array_in(key: str, file: str, kinds: str, dims: Collection[int]) -> Array:
    """The array of an NPY file, of one of these ``kinds`` of numbers, such as "fiu".

    Raises:
        Unfit: it cannot be read, or holds something else.
    """
    name = Path(file).name
    try:
        found: object = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        advice = "save an array with numpy.save"
        raise Unfit(key, f"cannot read the array {name}", advice=advice) from error
    values = cast(Array, found) if isinstance(found, np.ndarray) else None
    if values is None or values.dtype.kind not in kinds:
        kind = "complex" if kinds == "c" else "real"
        given = "an archive" if values is None else str(values.dtype)
        raise Unfit(key, f"{name} must hold {kind} numbers", given=given)
    if values.ndim not in dims or not values.size:
        shapes = " or ".join(map(str, dims))
        given = f"dimensions {values.shape}"
        raise Unfit(key, f"{name} must have {shapes} dimensions, none empty", given=given)
    return values


def shape_of(key: str, file: str) -> tuple[int, ...]:
    """The dimensions of the array of an NPY file, read from its head.

    Raises:
        Unfit: it cannot be read.
    """
    try:
        return tuple(np.load(file, mmap_mode="r", allow_pickle=False).shape)
    except (OSError, ValueError, EOFError, AttributeError) as error:
        advice = "save an array with numpy.save"
        what = f"cannot read the array {Path(file).name}"
        raise Unfit(key, what, advice=advice) from error


def matrix_in(key: str, file: str) -> object:
    """A dense matrix of an NPY file, or a sparse one of SciPy's NPZ.

    Raises:
        Unfit: it cannot be read, or is no matrix of real numbers.
    """
    try:
        return _matrix(key, file, Path(file).stat().st_mtime_ns)
    except OSError as error:
        raise Unfit(key, f"there is no file {Path(file).name}") from error


@lru_cache(maxsize=_KEPT)
def _matrix(key: str, file: str, changed: int) -> object:
    del changed
    if not file.endswith(".npz"):
        return torch.from_numpy(array_in(key, file, "fiub", (2,)).astype(np.float64))
    try:
        return scipy.sparse.load_npz(file)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        advice = "save it with scipy.sparse.save_npz"
        what = f"cannot read the sparse matrix {Path(file).name}"
        raise Unfit(key, what, advice=advice) from error


def black_and_white(key: str, file: str) -> Tensor:
    """What is white in a picture of two grey values, (h, w) booleans.

    Raises:
        Unfit: it cannot be read, or has other values.
    """
    try:
        x = load_image(file, grey=True)[0, 0]
    except InputError as error:
        raise Unfit(key, str(error)) from error
    if not bool(((x == 0) | (x == 1)).all()):
        advice = "make it white (seen) and black (not seen)"
        raise Unfit(key, f"{Path(file).name} is not black and white alone", advice=advice)
    return x == 1
