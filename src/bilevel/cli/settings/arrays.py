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
from bilevel.data import Place, load_image
from bilevel.ground.errors import InputError

__all__ = [
    "ARRAYS",
    "array_in",
    "black_and_white",
    "grey_in",
    "matrix_in",
    "numbers_in",
    "shape_of",
]

Array = NDArray[Any]
_KEPT = 2
ARRAYS = (".npy", ".npz")
"""Suffixes of files that hold arrays of any shape."""
_KINDS = {"b": "truth values", "c": "complex numbers", "U": "text", "S": "text"}


def array_in(key: str, file: str, kinds: str, dims: Collection[int]) -> Array:
    """The array of an NPY or NPZ file, of one of these ``kinds`` of numbers, such as "fiu".

    Raises:
        Unfit: it cannot be read, or holds something else.
    """
    name, values = Path(file).name, _read(key, file)
    if values.dtype.kind not in kinds:
        kind = "complex" if kinds == "c" else "real"
        raise Unfit(
            key, f"{name} must hold {kind} numbers", given=_KINDS.get(values.dtype.kind, "others")
        )
    if values.ndim not in dims or not values.size:
        shapes = " or ".join(map(str, dims))
        given = f"dimensions {values.shape}"
        raise Unfit(key, f"{name} must have {shapes} dimensions, none empty", given=given)
    return values


def _read(key: str, file: str) -> Array:
    """The array of a file, or the only one of an archive."""
    place = Place.of(file)
    try:
        found: Any = np.load(place.path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return cast(Array, found)
        with found as archive:
            names = list(archive.files) if place.key is None else [place.key]
            if len(names) == 1:
                return cast(Array, archive[names[0]])
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        advice = "save an array with numpy.save"
        raise Unfit(key, f"cannot read the array {place.name}", advice=advice) from error
    advice = f'name one, e.g. "{place.name}:{names[0]}"' if names else "save one with numpy.savez"
    raise Unfit(key, f"{place.name} must hold one array", given=f"{len(names)}", advice=advice)


def numbers_in(key: str, file: str) -> Tensor:
    """The real numbers of an NPY or NPZ file, of any shape, or the grey values of a picture.

    Raises:
        Unfit: it cannot be read, or holds something else.
    """
    if Place.of(file).suffix in ARRAYS:
        array = array_in(key, file, "fiub", range(1, 8))
        return torch.from_numpy(array.astype(np.float64))
    try:
        return grey_in(file)
    except InputError as error:
        raise Unfit(key, str(error)) from error


def grey_in(file: str | Path) -> Tensor:
    """The grey values of a picture, (h, w) float64.

    Raises:
        InputError: it cannot be read, or has channels that differ.
    """
    channels = load_image(file, dtype=torch.float64)[0]
    if not bool((channels == channels[:1]).all()):
        what = f"one channel is needed, and {Path(file).name} has {len(channels)} that differ"
        raise InputError(what, advice="save the one of this channel of the images")
    return channels[0]


def shape_of(key: str, file: str) -> tuple[int, ...]:
    """The dimensions of the array of an NPY or NPZ file; those of an NPY are read from its head.

    Raises:
        Unfit: it cannot be read.
    """
    if Place.of(file).suffix == ".npz":
        return _read(key, file).shape
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
