"""Matrices of line integrals by Joseph's method: linear interpolation along the rays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

__all__ = ["Rays", "joseph"]

Array = NDArray[np.float64]
_ENTRIES = 2**23
"""Interpolated at once; memory of the assembly."""


@dataclass(frozen=True, eq=False)
class Rays:
    """Lines in the plane: a point (r, 2) and a direction of length 1 (r, 2) each, (x, y) [length].

    x points along the rows of the image, y along its columns, from its centre.
    """

    point: Array
    direction: Array


def joseph(rays: Rays, size: tuple[int, int], pixel: float) -> Any:
    """The matrix (r, h w) whose row is the integral over a ray of an image, SciPy CSR, float64.

    A ray that runs more along x is sampled at every column of pixels, where the image is linearly
    interpolated between two rows (Joseph 1982, equations 9 to 11); others at every row. Outside,
    the image is zero.

    Args:
        rays: the lines.
        size: (h, w) of the image [pixel].
        pixel: side of a pixel [length].
    """
    flat = np.abs(rays.direction[:, 0]) >= np.abs(rays.direction[:, 1])
    parts = [part for along in (0, 1) for part in _parts(rays, flat == (along == 0), size, along)]
    row, column, weight = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    shape = len(rays.point), size[0] * size[1]
    found = scipy.sparse.coo_array((weight * pixel, (row, column)), shape=shape).tocsr()
    found.sum_duplicates()
    return found


def _parts(
    rays: Rays, chosen: NDArray[np.bool_], size: tuple[int, int], along: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], Array]]:
    """Rows, columns and weights in pixels, of the rays that run along x (0) or y (1)."""
    indices = np.flatnonzero(chosen)
    steps, across = (size[1], size[0]) if along == 0 else (size[0], size[1])
    centre_along, centre_across = (steps - 1) / 2, (across - 1) / 2
    for some in np.array_split(indices, max(1, len(indices) * steps // _ENTRIES)):
        point, direction = rays.point[some], rays.direction[some]
        main, other = direction[:, along], direction[:, 1 - along]
        at = np.arange(steps) - centre_along
        slope = other / main
        place = point[:, 1 - along, None] + (at - point[:, along, None]) * slope[:, None]
        place += centre_across
        low = np.floor(place)
        upper_share = place - low
        for offset, share in ((0, 1 - upper_share), (1, upper_share)):
            index = low.astype(np.int64) + offset
            seen = (index >= 0) & (index < across) & (share > 0)
            ray, step = np.nonzero(seen)
            cross = index[seen]
            column = cross * size[1] + step if along == 0 else step * size[1] + cross
            weight = share[seen] / np.abs(main)[ray]
            yield some[ray].astype(np.int32), column.astype(np.int32), weight
