"""Filtered back-projection: the first image of tomography."""

from __future__ import annotations

from math import pi
from typing import cast

import torch
from torch import Tensor

__all__ = ["back_projected_fan", "filtered"]


def filtered(y: Tensor) -> Tensor:
    """The ramp filter (Ram-Lak) along detectors (..., n) of spacing 1; zero beyond their ends."""
    count = y.shape[-1]
    length = 2 ** (2 * count - 1).bit_length()
    z = cast(Tensor, torch.fft.rfft(y, length)) * _ramp(length).to(y)
    return cast(Tensor, torch.fft.irfft(z, length))[..., :count]


def _ramp(length: int) -> Tensor:
    """The spectrum of the ramp filter on a detector of spacing 1, (length // 2 + 1,) float64.

    Kak and Slaney 1988, (3.61): 1/4 at 0, -1/(π n)² at odd n.
    """
    n = torch.arange(length)
    n = torch.minimum(n, length - n).double()
    kernel = torch.where(n.remainder(2) == 1, -1 / (pi * n.clamp_min(1)) ** 2, 0.0)
    kernel[0] = 0.25
    return cast(Tensor, torch.fft.rfft(kernel)).real


def back_projected_fan(
    y: Tensor, angles: Tensor, size: tuple[int, int], spacing: float, source: float
) -> Tensor:
    """From rays of a point that turned through 360 degrees, Kak and Slaney 1988, 3.4.2.

    Args:
        y: line integrals (b, 1, angles, n).
        angles: in radians, (angles,).
        size: (h, w) of the image [pixel].
        spacing: of the detector moved to the centre [pixel].
        source: distance of the point from the centre [pixel].
    """
    count = y.shape[-1]
    s = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * spacing
    weights = source / (source**2 + s.square()).sqrt()
    q = filtered(y * weights.to(y)) / spacing
    h, w = size
    down = (torch.arange(h, dtype=torch.float64) - (h - 1) / 2)[:, None]
    across = torch.arange(w, dtype=torch.float64) - (w - 1) / 2
    total = torch.zeros(len(y), 1, h, w, dtype=y.dtype, device=y.device)
    for k, angle in enumerate(angles.double()):
        ahead = source - angle.sin() * across + angle.cos() * down
        place = source * (angle.cos() * across + angle.sin() * down) / ahead
        place = place / spacing + (count - 1) / 2
        low = place.floor().clamp(0, count - 2)
        share = (place - low).to(y)
        inside = ((place >= 0) & (place <= count - 1)) * (source / ahead).square()
        index, line = low.long().to(y.device), q[:, :, k]
        seen = torch.lerp(line[..., index], line[..., index + 1], share)
        total += inside.to(y) * seen
    return (pi / len(angles)) * total
