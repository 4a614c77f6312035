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
_TOGETHER = 256
"""Rays assembled at once, so that what they take stays in the cache of a processor."""
_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Rays:
    """Lines in the plane: a point (r, 2) and a direction of length 1 (r, 2) each, (x, y) [length].

    x points along the rows of the image, y along its columns, from its centre.
    """

    point: Array
    direction: Array


def joseph(rays: Rays, size: tuple[int, int], pixel: float) -> Any:
    """The matrix (r, h w) whose row is the integral over a ray of an image, SciPy CSR, float32.

    A ray that runs more along x is sampled at every column of pixels, where the image is linearly
    interpolated between two rows (Joseph 1982, equations 9 to 11); others at every row. Outside,
    the image is zero. Computed in float64, rounded at the end; columns are in order.

    Args:
        rays: the lines.
        size: (h, w) of the image [pixel].
        pixel: side of a pixel [length].
    """
    parts = [_part(rays, run, along, size, pixel) for run, along in _runs(rays)]
    counts, columns, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    starts = np.concatenate([[0], np.cumsum(counts)])
    if starts[-1] < 2**31:
        starts = starts.astype(np.int32)
    shape = len(rays.point), size[0] * size[1]
    return scipy.sparse.csr_array((weights, columns, starts), shape=shape)


def _runs(rays: Rays) -> Iterator[tuple[slice, int]]:
    """Neighbouring rays that all run along x (0) or all along y (1)."""
    steep = np.abs(rays.direction[:, 0]) < np.abs(rays.direction[:, 1])
    count = len(steep)
    turns = set(np.flatnonzero(np.diff(steep)) + 1)
    ends = sorted(turns | set(range(_TOGETHER, count, _TOGETHER)) | {count})
    for begin, end in zip([0, *ends], ends, strict=False):
        yield slice(begin, end), int(steep[begin])


def _part(
    rays: Rays, run: slice, along: int, size: tuple[int, int], pixel: float
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Entries a ray, their columns and weights, of rays that run along x (0) or y (1)."""
    point, direction = rays.point[run], rays.direction[run]
    steps, across = (size[1], size[0]) if along == 0 else (size[0], size[1])
    main, slope = direction[:, along], direction[:, 1 - along] / direction[:, along]
    at = np.arange(steps) - (steps - 1) / 2
    place = (point[:, 1 - along] - point[:, along] * slope)[:, None] + at * slope[:, None]
    place += (across - 1) / 2
    low = np.floor(place)
    share = np.empty((*place.shape, 2))
    np.subtract(place, low, out=share[..., 1])
    np.subtract(1, share[..., 1], out=share[..., 0])
    seen = share > 0
    seen[..., 0] &= (low >= 0) & (low < across)
    seen[..., 1] &= (low >= -1) & (low < across - 1)
    share *= (pixel / np.abs(main))[:, None, None]
    stride, step = (size[1], 1) if along == 0 else (1, size[1])
    column = np.clip(low, -1, across).astype(np.int32) * np.int32(stride)
    column += np.arange(steps, dtype=np.int32) * np.int32(step)
    columns = np.stack([column, column + np.int32(stride)], -1)
    weights, counts = share.astype(np.float32), seen.sum((1, 2))
    if along == 0:
        return counts, *_in_order(columns, weights, seen)
    return counts, columns[seen], weights[seen]


def _in_order(
    columns: NDArray[np.int32], weights: NDArray[np.float32], seen: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Entries that are seen, by their columns: both as halves of one integer, sorted ray by ray."""
    keys = columns.astype(np.int64) << 32
    keys |= weights.view(np.int32)  # of positive floats
    keys[~seen] = _LAST
    keys = np.sort(keys.reshape(len(keys), -1), axis=1)
    keys = keys[keys != _LAST]
    return (keys >> 32).astype(np.int32), keys.astype(np.int32).view(np.float32)
