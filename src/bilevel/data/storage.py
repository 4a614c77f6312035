"""How a file holds its values: enough to write results in the units and the layout of the data."""

from __future__ import annotations

from dataclasses import dataclass
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

Array = NDArray[np.float64]
Raw = NDArray[Any]
Layout = Literal["stack", "colour"]
Channels = Literal["none", "first", "last"]
_FULL_SCALE = {"b1": 1.0, "u1": 255.0, "u2": 65535.0}
_EXACT = 2**53


@dataclass(frozen=True)
class Storage:
    """Format, number type, unit and layout of a file.

    Args:
        suffix: of the format, ".png", ".tif" or ".npy".
        dtype: of the numbers in the file.
        unit: the number that stands for grey value 1.
        channels: where channels stand in a page: none, first or last.
        stack: whether there is an axis of pages, even if it holds one.
        notes: what was done to the values that is not plain, one clause each.
        imagej: whether a TIFF is one of ImageJ, with the axes that it names.
    """

    suffix: str
    dtype: np.dtype[Any]
    unit: float = 1.0
    channels: Channels = "none"
    stack: bool = False
    notes: tuple[str, ...] = ()
    imagej: bool = False

    @property
    def precise(self) -> bool:
        """Whether float32 would lose digits of the file."""
        return self.dtype.itemsize > (2 if self.dtype.kind in "iu" else 4)

    @property
    def written(self) -> np.dtype[Any]:
        """The floating-point type that results are written in."""
        return np.dtype(np.float64 if self.precise else np.float32)


@dataclass(frozen=True, eq=False)
class Pages:
    """Grey values of every page, (h, w) or (h, w, 3), and how the file held them."""

    values: tuple[Array, ...]
    storage: Storage


def full_scale(dtype: np.dtype[Any]) -> float:
    """The number for grey value 1: the largest of 8 or 16 unsigned bits, else 1.

    Raises:
        InputError: complex numbers, or no numbers at all.
    """
    if dtype.kind == "c":
        what = "the values are complex, and complex data cannot be reconstructed from files yet"
        raise InputError(what, advice="complex images to learn from need complex = true in [data]")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError("the values are not real numbers of at most 64 bits", given=dtype)
    return _FULL_SCALE.get(f"{dtype.kind}{dtype.itemsize}", 1.0)


def in_grey_values(values: Raw) -> Array:
    """The values in float64, those of 8 or 16 unsigned bits divided by the largest.

    Raises:
        InputError: values that float64 cannot hold.
    """
    unit = full_scale(values.dtype)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        reach = max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
        if reach > _EXACT:
            raise InputError("whole numbers beyond 2^53 lose digits", given=reach)
    return values.astype(np.float64) / unit


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
