"""How a file holds its values: enough to write results in the units and the layout of the data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bilevel.ground.errors import InputError

__all__ = [
    "Channels",
    "Layout",
    "Pages",
    "Storage",
    "full_scale",
    "in_grey_values",
    "opaque",
]

Array = NDArray[np.inexact]
Raw = NDArray[Any]
Layout = Literal["stack", "colour", "coils"]
Channels = Literal["none", "first", "last"]
_FULL_SCALE = {"b1": 1.0, "u1": 255.0, "u2": 65535.0}
_EXACT = 2**53


@dataclass(frozen=True)
class Storage:
    """Format, number type, unit and layout of a file.

    Args:
        suffix: of the format, ".png", ".tif", ".npy", ...
        dtype: of the numbers in the file.
        unit: the number that stands for grey value 1.
        channels: where channels stand in a page: none, first or last.
        stack: whether there is an axis of pages, even if it holds one.
        notes: what was done to the values that is not plain, one clause each.
        imagej: whether a TIFF is one of ImageJ, with the axes that it names.
        volume: of a NIfTI file, what its results are to be put into.
    """

    suffix: str
    dtype: np.dtype[Any]
    unit: float = 1.0
    channels: Channels = "none"
    stack: bool = False
    notes: tuple[str, ...] = ()
    imagej: bool = False
    volume: Any = field(default=None, compare=False, repr=False)

    @property
    def complex(self) -> bool:
        """Whether the numbers are complex; a page then has pairs of channels, as operators do."""
        return self.dtype.kind == "c"

    @property
    def precise(self) -> bool:
        """Whether float32 would lose digits of the file."""
        return self.dtype.itemsize > {"i": 2, "u": 2, "c": 8}.get(self.dtype.kind, 4)

    def written(self, values: Raw) -> np.dtype[Any]:
        """The floating-point type that results are written in."""
        if values.dtype.kind == "c":
            return np.dtype(np.complex128 if self.precise else np.complex64)
        return np.dtype(np.float64 if self.precise else np.float32)


@dataclass(frozen=True, eq=False)
class Pages:
    """Grey values of every page, and how the file held them.

    A page is (h, w) or (h, w, 3); of complex numbers (h, w), or (N, h, w) from N coils.
    """

    values: tuple[Array, ...]
    storage: Storage


def full_scale(dtype: np.dtype[Any]) -> float:
    """The number for grey value 1: the largest of 8 or 16 unsigned bits, else 1.

    Raises:
        InputError: no numbers, or more bits than double precision has.
    """
    if dtype.kind not in "biufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        what = "the values are not numbers of at most 64 bits (complex: 128)"
        raise InputError(what, given=dtype)
    return _FULL_SCALE.get(f"{dtype.kind}{dtype.itemsize}", 1.0)


def in_grey_values(values: Raw) -> Array:
    """The values in double precision, those of 8 or 16 unsigned bits divided by the largest.

    Raises:
        InputError: values that float64 cannot hold.
    """
    unit = full_scale(values.dtype)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        reach = max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
        if reach > _EXACT:
            raise InputError("whole numbers beyond 2^53 lose digits", given=reach)
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64) / unit


def opaque(values: Raw, alpha: Raw) -> Raw:
    """``values`` if no pixel is transparent.

    Raises:
        InputError: some are.
    """
    top = 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max)
    clear = int(np.count_nonzero(alpha != top))
    if clear:
        advice = "save the picture without transparency (alpha)"
        given = f"{clear} of {alpha.size} that are transparent"
        raise InputError("every pixel must be opaque", given=given, advice=advice)
    return values
