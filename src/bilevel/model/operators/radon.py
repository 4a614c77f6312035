"""Tomography: line integrals of an image, parallel or from a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.model.operators.back_projection import back_projected_fan, filtered
from bilevel.model.operators.inputs import real_tensor
from bilevel.model.operators.joseph import Rays, joseph
from bilevel.model.operators.kept import kept
from bilevel.model.operators.matrix import Matrix
from bilevel.model.operators.operator import Shape

__all__ = ["Radon"]

_KEPT = 4
"""Matrices in memory."""
_WORTH = 2**21
"""Points on rays from which on a matrix is kept on disk."""
_METHOD = "joseph 1"
"""Another number wherever the entries change."""


@dataclass(frozen=True)
class Geometry:
    """Where the rays are; see :class:`Radon`."""

    size: tuple[int, int]
    degrees: tuple[float, ...]
    count: int
    spacing: float
    pixel: float
    source: float | None
    behind: float


class Radon(Matrix):
    """Tomography: integrals of an image along lines.

    The data (1, angles, detectors) are line integrals by Joseph's method, assembled once into a
    sparse matrix, so that the adjoint is exact. Large matrices are kept on disk, in ``bilevel`` of
    the user's cache folder; ``BILEVEL_CACHE`` names another folder, or is "off".

    At angle θ the detector points along (cos θ, sin θ), x along the rows and y down the columns
    from the centre of the image; its elements lie at (j - (n - 1)/2) · spacing. With ``source``
    the rays start at a point so far from the centre, on the side against (-sin θ, cos θ), and the
    detector stands as far behind the centre as ``behind`` says (fan beam, flat detector).

    Args:
        size: (h, w) of the image [pixel].
        angles: how many, spread evenly over 180 degrees (parallel) or 360 degrees (fan), or the
            angles themselves [degree].
        detectors: how many elements; enough for the diagonal of the image if None.
        spacing: distance of the elements [length].
        pixel: side of a pixel [length].
        source: distance of the source from the centre [length]; parallel rays if None.
        behind: distance of the detector from the centre [length], with a source.
        precise: float64; entries are rounded to float32 in any case.

    Raises:
        InputError: sizes, angles or distances that are impossible, or a source within the image.

    Example:
        >>> operator = Radon((16, 16), angles=12)
        >>> operator(torch.ones(1, 1, 16, 16)).shape
        torch.Size([1, 1, 12, 23])
    """

    def __init__(
        self,
        size: tuple[int, int],
        angles: int | Sequence[float] | Tensor,
        detectors: int | None = None,
        spacing: float = 1.0,
        pixel: float = 1.0,
        source: float | None = None,
        behind: float = 0.0,
        *,
        precise: bool = False,
    ) -> None:
        """Assemble the matrix, unless one of the same geometry was assembled before."""
        h, w = _size(size)
        degrees = _degrees(angles, 180.0 if source is None else 360.0)
        check_positive(spacing, "the spacing")
        check_positive(pixel, "the pixel")
        diagonal = pixel * float(np.hypot(h, w))
        if source is not None and not (source > diagonal / 2 and behind >= 0):
            what = f"the source must lie outside the image, {diagonal / 2:.4g} from its centre"
            raise InputError(what, given=f"source = {source:g}, behind = {behind:g}")
        check_count(detectors, "detectors")
        magnified = 1.0 if source is None else (source + behind) / (source - diagonal / 2)
        needed = int(np.ceil(diagonal * magnified / spacing))
        count = needed if detectors is None else detectors
        self.geometry = Geometry((h, w), degrees, count, spacing, pixel, source, behind)
        matrix = _assembled(self.geometry)
        super().__init__(matrix.astype(float) if precise else matrix, (1, h, w), saved=False)
        self._data_shape: Shape = (1, len(degrees), count)

    def start(self, y: Tensor) -> Tensor:
        """Filtered back-projection, of two angles and more."""
        if len(self.geometry.degrees) > 1:
            return self.filtered_back_projection(y)
        return super().start(y)

    def filtered_back_projection(self, y: Tensor) -> Tensor:
        """The ramp filter (Ram-Lak) along the detector, then back along the rays.

        The angles should be spread over 180 degrees, from a point over 360. What lies beyond the
        detector is zero.

        Raises:
            InputError: data of another shape.
        """
        self.check_data(y)
        g = self.geometry
        if g.source is None:
            return (pi / (len(g.degrees) * g.pixel**2)) * self.adjoint(filtered(y))
        angles = torch.deg2rad(torch.tensor(g.degrees, dtype=torch.float64))
        source = g.source / g.pixel
        spacing = g.spacing / g.pixel * g.source / (g.source + g.behind)
        return back_projected_fan(y, angles, g.size, spacing, source) / g.pixel

    def options(self) -> dict[str, object]:
        """The geometry: the matrix is assembled again."""
        g = self.geometry
        return {
            "size": g.size,
            "angles": torch.tensor(g.degrees, dtype=torch.float64),
            "detectors": g.count,
            "spacing": g.spacing,
            "pixel": g.pixel,
            "source": g.source,
            "behind": g.behind,
            "precise": self._values.dtype == torch.float64,
        }


@lru_cache(maxsize=_KEPT)
def _assembled(geometry: Geometry) -> Any:
    """The matrix, SciPy CSR, float32."""
    points = len(geometry.degrees) * geometry.count * max(geometry.size)
    if points < _WORTH:
        return _matrix(geometry)
    return kept(f"{_METHOD} {geometry!r}", lambda: _matrix(geometry))


def _matrix(geometry: Geometry) -> Any:
    """Rays of all angles, one after the other, in pixels."""
    g = geometry
    theta = np.deg2rad(np.asarray(g.degrees))[:, None, None]
    t = ((np.arange(g.count) - (g.count - 1) / 2) * (g.spacing / g.pixel))[None, :, None]
    along = np.concatenate([np.cos(theta), np.sin(theta)], -1)
    ahead = np.concatenate([-np.sin(theta), np.cos(theta)], -1)
    if g.source is None:
        point = t * along
        direction = np.broadcast_to(ahead, point.shape)
    else:
        end = t * along + (g.behind / g.pixel) * ahead
        point = np.broadcast_to((-g.source / g.pixel) * ahead, end.shape)
        direction = (end - point) / np.linalg.norm(end - point, axis=-1, keepdims=True)
    lines = [np.asarray(part, np.float64).reshape(-1, 2) for part in (point, direction)]
    return joseph(Rays(*lines), g.size, g.pixel)


def _size(size: object) -> tuple[int, int]:
    match size:
        case (int(h), int(w)) if min(h, w) > 0:
            return (h, w)
        case _:
            raise InputError("size must be (h, w), both positive", given=size)


def _degrees(angles: int | Sequence[float] | Tensor, whole: float) -> tuple[float, ...]:
    if isinstance(angles, int):
        check_count(angles, "angles")
        return tuple(k * whole / angles for k in range(angles))
    return tuple(float(v) for v in real_tensor(angles, "angles", (1,)).double())
