"""Tomography: line integrals of an image, parallel or from a point."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.model.operators.inputs import real_tensor
from bilevel.model.operators.joseph import Rays, joseph
from bilevel.model.operators.matrix import Matrix
from bilevel.model.operators.operator import Shape

__all__ = ["Radon"]

_KEPT = 4


class Radon(Matrix):
    """Tomography: integrals of an image along lines.

    The data (1, angles, detectors) are line integrals by Joseph's method, assembled once into a
    sparse matrix, so that the adjoint is exact. At angle θ the detector points along
    (cos θ, sin θ), x along the rows and y down the columns from the centre of the image; its
    elements lie at (j - (n - 1)/2) · spacing. With ``source`` the rays start at a point so far
    from the centre, on the side against (-sin θ, cos θ), and the detector stands as far behind the
    centre as ``behind`` says (fan beam, flat detector).

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
        magnified = 1.0 if source is None else (source + behind) / (source - diagonal / 2)
        needed = int(np.ceil(diagonal * magnified / spacing))
        count = needed if detectors is None else check_count(detectors, "detectors")
        geometry = ((h, w), degrees, count, spacing, pixel, source, behind)
        matrix = _assembled(*geometry).astype(np.float32)
        super().__init__(matrix.astype(float) if precise else matrix, (1, h, w), saved=False)
        self._geometry = geometry
        self._data_shape: Shape = (1, len(degrees), count)

    def start(self, y: Tensor) -> Tensor:
        """Filtered back-projection of parallel rays; from a point, as for any operator."""
        if self._geometry[5] is None and len(self._geometry[1]) > 1:
            return self.filtered_back_projection(y)
        return super().start(y)

    def filtered_back_projection(self, y: Tensor) -> Tensor:
        """The ramp filter (Ram-Lak) along the detector, then Aᵀ times π/angles: parallel rays.

        The angles should be spread over 180 degrees. What lies beyond the detector is zero.

        Raises:
            InputError: rays from a point, or data of another shape.
        """
        self.check_data(y)
        _, degrees, count, _, pixel, source, _ = self._geometry
        if source is not None:
            raise InputError("filtered back-projection needs parallel rays", given="a fan")
        length = 2 ** int(np.ceil(np.log2(2 * count)))
        n = torch.arange(length, device=y.device)
        n = torch.minimum(n, length - n).double()
        odd = n.remainder(2) == 1
        ramp = torch.where(odd, -1 / (pi * n.clamp_min(1)) ** 2, 0.0)
        ramp[0] = 0.25
        spectrum = torch.fft.rfft(ramp).real.to(y.dtype)
        filtered = torch.fft.irfft(torch.fft.rfft(y, length) * spectrum, length)[..., :count]
        return self.adjoint(filtered) * (pi / (len(degrees) * pixel**2))

    def options(self) -> dict[str, object]:
        """The geometry: the matrix is assembled again."""
        size, degrees, count, spacing, pixel, source, behind = self._geometry
        return {
            "size": size,
            "angles": torch.tensor(degrees, dtype=torch.float64),
            "detectors": count,
            "spacing": spacing,
            "pixel": pixel,
            "source": source,
            "behind": behind,
            "precise": self._values.dtype == torch.float64,
        }


@lru_cache(maxsize=_KEPT)
def _assembled(
    size: tuple[int, int],
    degrees: tuple[float, ...],
    count: int,
    spacing: float,
    pixel: float,
    source: float | None,
    behind: float,
) -> Any:
    """The matrix, in pixels: rays of all angles, one after the other."""
    theta = np.deg2rad(np.asarray(degrees))[:, None]
    t = ((np.arange(count) - (count - 1) / 2) * spacing / pixel)[None]
    along = np.stack(np.broadcast_arrays(np.cos(theta), np.sin(theta)), -1)
    ahead = np.stack(np.broadcast_arrays(-np.sin(theta), np.cos(theta)), -1)
    if source is None:
        point = t[..., None] * along
        direction = np.broadcast_to(ahead, point.shape)
    else:
        end = t[..., None] * along + behind / pixel * ahead
        point = np.broadcast_to(-source / pixel * ahead, end.shape)
        direction = end - point
        direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    return joseph(Rays(point.reshape(-1, 2), direction.reshape(-1, 2)), size, pixel)


def _size(size: object) -> tuple[int, int]:
    match size:
        case (int(h), int(w)) if min(h, w) > 0:
            return (h, w)
        case _:
            raise InputError("size must be (h, w), both positive", given=size)


def _degrees(angles: int | Sequence[float] | Tensor, whole: float) -> tuple[float, ...]:
    if isinstance(angles, int):
        count = check_count(angles, "angles")
        return tuple(k * whole / count for k in range(count))
    return tuple(float(v) for v in real_tensor(angles, "angles", (1,)).double())
