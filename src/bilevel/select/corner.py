"""The corner of a curve that is known at some points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bilevel.select.search import Found, Function

__all__ = ["corner", "find_corner", "sharpness"]

WIDEST = 7 * math.pi / 8
"""An angle wider than that is no corner."""


def corner(points: Tensor) -> tuple[Tensor, Tensor]:
    """The triangle method of Castellanos, Gómez and Guerra (2002).

    Every point B, with a point A before it and the last point C, makes a triangle; the corner is
    the B of the sharpest angle among those that turn clockwise and stay below 7π/8.

    Args:
        points: (n, b, 2) float64, from the flat end of an L (right) to the steep one (top left).

    Returns:
        The place of the corner in 0..n-1, (b,); n - 1 where there is none, as in the paper.
        The least angle at every point [rad], (n, b); π where no triangle is a corner.

    Example:
        >>> points = torch.tensor([[3.0, 0.0], [1.5, 0.1], [0.0, 0.2], [-0.1, 2.0]]).double()
        >>> int(corner(points[:, None])[0])
        2
    """
    angles = sharpness(points)
    least, place = angles.min(0)
    return torch.where(least < WIDEST, place, len(points) - 1), angles


def sharpness(points: Tensor) -> Tensor:
    """The least angle of clockwise triangles at every point, (n, b); π where there is none.

    Inf where fewer than three points are finite, which make no triangle.
    """
    angles = torch.full(points.shape[:2], math.pi, dtype=torch.float64)
    last = points[-1]
    for k in range(1, len(points) - 1):
        before, after = points[:k] - points[k], last - points[k]
        dot = (before * after).sum(-1)
        turn = before[..., 1] * after[..., 0] - before[..., 0] * after[..., 1]
        angle = torch.atan2(turn.abs(), dot)
        clockwise = turn < 0
        fits = clockwise & angle.isfinite()
        angles[k] = torch.where(fits, angle, math.pi).amin(0)
    known = points.isfinite().all(-1)
    return torch.where(known.sum(0) < 3, torch.inf, angles)


def find_corner(
    f: Function, low: Tensor, high: Tensor, *, count: int = 31
) -> tuple[Found, Tensor, Tensor]:
    """The corner on a grid, with the grid (n, b) and the angle at each of its points.

    Args:
        f: (t, index) -> points of the curve, (len(index), 2); flat at ``high``, steep at ``low``.
        low: ends of the intervals, (b,) float64.
        high: the other ends.
        count: points of the grid.
    """
    everyone, shares = torch.arange(len(low)), torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    grid = torch.stack([high + share * (low - high) for share in shares])
    place, angles = corner(torch.stack([f(t, everyone) for t in grid]))
    at, least = (values.gather(0, place[None])[0] for values in (grid, angles))
    return Found(at, least, place < count - 1), grid, angles
