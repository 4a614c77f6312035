"""Odd, continuous, piecewise linear functions of one variable, with their integrals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bilevel.ground.fused import fused

__all__ = ["OddSpline", "even_knots"]

Tables = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of every piece: where it begins, the function and its integral there, and its slope; flat."""


def even_knots(reach: float, intervals: int) -> Tensor:
    """``intervals`` knots at equal distances, the last one at ``reach``.

    Example:
        >>> even_knots(1.0, 4)
        tensor([0.2500, 0.5000, 0.7500, 1.0000])
    """
    return torch.linspace(0.0, reach, intervals + 1)[1:]


@dataclass(frozen=True)
class OddSpline:
    """f(s) = sign(s) Σ_k c_k (how far |s| has come in the interval k), constant beyond the last.

    ``knots`` (n,) > 0 ascend and end the intervals; ``slopes`` c are (n,) for every channel of
    s (b, m, ...), or (m, n), one row a channel. ``spacing`` is the distance of knots that are even.

    Example:
        >>> f = OddSpline(torch.tensor([1.0, 2.0]), torch.tensor([1.0, -0.5]))
        >>> s = torch.tensor([-3.0, 0.5, 2.0]).view(1, 3, 1)
        >>> f.value(s).flatten(), f.integral(s).flatten()
        (tensor([-0.5000,  0.5000,  0.5000]), tensor([1.7500, 0.1250, 1.2500]))
    """

    knots: Tensor
    slopes: Tensor
    spacing: float | None = None

    @property
    def steep(self) -> Tensor:
        """Slopes of all pieces, (n + 1,) or (m, n + 1); 0 beyond the last knot."""
        return torch.cat([self.slopes, torch.zeros_like(self.slopes[..., :1])], -1)

    @property
    def ends(self) -> Tensor:
        """Where the pieces begin, (n + 1,)."""
        return torch.cat([torch.zeros_like(self.knots[:1]), self.knots])

    @property
    def heights(self) -> Tensor:
        """f where the pieces begin, in the shape of :attr:`steep`."""
        rise = (self.slopes * self.ends.diff()).cumsum(-1)
        return torch.cat([torch.zeros_like(rise[..., :1]), rise], -1)

    @property
    def levels(self) -> Tensor:
        """a where f(s) = a + c s, of every piece with s > 0."""
        return self.heights - self.steep * self.ends

    @cached_property
    def tables(self) -> Tables:
        """As the evaluations take them."""
        heights, ends = self.heights, self.ends
        areas = (0.5 * ends.diff() * (heights[..., 1:] + heights[..., :-1])).cumsum(-1)
        areas = torch.cat([torch.zeros_like(areas[..., :1]), areas], -1)
        begin = ends.expand_as(heights)
        return begin.flatten(), heights.flatten(), areas.flatten(), self.steep.flatten()

    def place(self, s: Tensor) -> Tensor:
        """Which entry of the tables is for s, in the shape of s."""
        return _place(s, self.knots, self.spacing) + self._offset(s)

    def _offset(self, s: Tensor) -> Tensor | int:
        """Where the entries of the channels begin."""
        if self.slopes.ndim == 1:
            return 0
        first = torch.arange(len(self.slopes), device=s.device) * (len(self.knots) + 1)
        return first.view(-1, *[1] * (s.ndim - 2))

    def value(self, s: Tensor) -> Tensor:
        """f(s)."""
        return _value(s, self.knots, self.spacing, self._offset(s), self.tables)

    def integral(self, s: Tensor) -> Tensor:
        """∫_0^s f."""
        return self.both(s)[0]

    def both(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """The integral and f."""
        return _both(s, self.knots, self.spacing, self._offset(s), self.tables)

    def slope(self, s: Tensor) -> Tensor:
        """f'(s); at a knot that of one of the pieces beside it."""
        return self.tables[3][self.place(s)]

    def level(self, s: Tensor) -> Tensor:
        """f(s) - s f'(s), constant between knots."""
        return torch.sign(s) * self.levels.flatten()[self.place(s)]

    def lengths(self, s: Tensor) -> Tensor:
        """‖∂f(s)/∂c‖: how far |s| has come in every interval, root of the sum of squares."""
        place, ends = _place(s, self.knots, self.spacing), self.ends
        widths = ends.diff().square().cumsum(0)
        past = torch.cat([torch.zeros_like(widths[:1]), widths])
        within = (s.abs() - ends[place]) * (place < len(self.knots))
        return (past[place] + within.square()).sqrt()

    def slope_change(self, s: Tensor, reach: Tensor) -> Tensor:
        """The most that f' changes by while s moves by ``reach`` at most."""
        low, high = self._touched(s, reach)
        least, most = _extremes(self.steep, low, high, self._offset(s))
        now = self.slope(s)
        return torch.maximum(most - now, now - least)

    def level_change(self, s: Tensor, reach: Tensor) -> Tensor:
        """An upper bound of what f - s f' changes by meanwhile."""
        low, high = self._touched(s, reach)
        least, most = _extremes(self.levels, low, high, self._offset(s))
        now = self.level(s).abs() * torch.sign(self.levels.flatten()[self.place(s)])
        onesided = torch.maximum(most - now, now - least)
        across = torch.maximum(most, -least) + now.abs()
        return torch.where(reach > s.abs(), across, onesided)

    def _touched(self, s: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """The first and the last piece that |s| may come to; those of s itself among them."""
        here = _place(s, self.knots, self.spacing)
        size, knots = s.abs(), self.knots.to(reach)
        low = torch.bucketize((size - reach).clamp_min(0.0).contiguous(), knots)
        high = torch.bucketize((size + reach).contiguous(), knots, right=True)
        return torch.minimum(low, here), torch.maximum(high, here)


def _extremes(
    table: Tensor, low: Tensor, high: Tensor, offset: Tensor | int
) -> tuple[Tensor, Tensor]:
    """The least and the largest of the entries low, ..., high of a channel's row."""
    return -_largest(-table, low, high, offset), _largest(table, low, high, offset)


def _largest(table: Tensor, low: Tensor, high: Tensor, offset: Tensor | int) -> Tensor:
    """By tables of the largest of 1, 2, 4, ... entries: two of them cover every range."""
    count, found = table.shape[-1], [table]
    while 2 ** len(found) <= count:
        half, last = 2 ** (len(found) - 1), found[-1]
        shifted = torch.cat([last[..., half:], last[..., -1:].expand_as(last[..., :half])], -1)
        found.append(torch.maximum(last, shifted))
    whole = torch.stack(found).flatten(1)
    span = high - low + 1
    doublings = torch.bucketize(
        span, 2 ** torch.arange(1, len(found), device=low.device), right=True
    )
    first, second = low + offset, high - 2**doublings + 1 + offset
    return torch.maximum(whole[doublings, first], whole[doublings, second])


def _place(s: Tensor, knots: Tensor, spacing: float | None) -> Tensor:
    """In which piece |s| lies."""
    size = s.detach().abs()
    if spacing is None:
        return torch.bucketize(size.contiguous(), knots)
    return (size * (1 / spacing)).clamp_max(len(knots)).long()


@fused
def _value(
    s: Tensor, knots: Tensor, spacing: float | None, offset: Tensor | int, tables: Tables
) -> Tensor:
    begin, heights, _, slopes = tables
    place = _place(s, knots, spacing) + offset
    return torch.sign(s) * (heights[place] + slopes[place] * (s.abs() - begin[place]))


@fused
def _both(
    s: Tensor, knots: Tensor, spacing: float | None, offset: Tensor | int, tables: Tables
) -> tuple[Tensor, Tensor]:
    begin, heights, areas, slopes = tables
    place = _place(s, knots, spacing) + offset
    past, height = s.abs() - begin[place], heights[place]
    rise = slopes[place] * past
    return areas[place] + past * (height + 0.5 * rise), torch.sign(s) * (height + rise)
