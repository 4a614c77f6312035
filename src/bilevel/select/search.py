"""One-dimensional searches for many rows at once: each row has its own interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Found", "Function", "find_minimum", "find_root"]

Function = Callable[[Tensor, Tensor], Tensor]
"""(t, index) -> values of the rows ``index`` at t, (len(index),) float64 each."""

GOLDEN = 0.381966


@dataclass(frozen=True)
class Found:
    """Where, and what there: ``inside`` tells the rows whose answer is not at an edge."""

    at: Tensor
    value: Tensor
    inside: Tensor


def find_minimum(
    f: Function,
    low: Tensor,
    high: Tensor,
    *,
    first: int | None = None,
    descending: bool = False,
    width: float = 0.02,
    most: int = 40,
) -> Found:
    """The least value, by parabolas and golden sections (Brent 1973, chapter 5) in a bracket.

    The bracket is where the values fall and rise again: on the way downhill from the middle, or
    around the least value of a grid. Rows whose values fall up to an end of [low, high] end there.

    Args:
        f: what is minimised.
        low: ends of the intervals, (b,) float64.
        high: the other ends.
        first: points of the grid, for functions with several minima; None walks.
        descending: walk from the upper end, in small equal steps, to the first minimum.
        width: of the interval that is small enough.
        most: evaluations of a row after the bracket is found.

    Example:
        >>> zero, one = torch.zeros(1).double(), torch.ones(1).double()
        >>> found = find_minimum(lambda t, index: (t - 0.3).square(), zero, one, width=1e-6)
        >>> abs(float(found.at) - 0.3) < 1e-6
        True
    """
    bracket = _walked(f, low, high, descending) if first is None else _on_grid(f, low, high, first)
    bracket = _off_the_ends(f, bracket, width)
    inside = (bracket.middle > bracket.left) & (bracket.middle < bracket.right)
    for step in range(most):
        index = torch.nonzero(inside & (bracket.span > width)).flatten()
        if not len(index):
            break
        part = bracket.rows(index)
        t = part.next(width / 4, golden=step % 3 == 2)
        bracket.put(index, part.narrowed(t, finite(f(t, index))))
    return Found(bracket.middle, bracket.value, inside)


def _walked(f: Function, low: Tensor, high: Tensor, descending: bool) -> _Bracket:
    """From the middle downhill, or from the upper end, in equal steps."""
    everyone, step = torch.arange(len(low)), (high - low) / (16 if descending else 8)
    middle = high - step if descending else (low + high) / 2
    left, right = (_snapped(t, low, high, step) for t in (middle - step, middle + step))
    value, at_right = (finite(f(t, everyone)) for t in (middle, right))
    at_left = torch.full_like(value, torch.inf)  # unseen where values fall to the right
    index = torch.nonzero(at_right >= value).flatten()
    if len(index):
        at_left[index] = finite(f(left[index], index))
    bracket = _Bracket(left, middle, right, at_left, value, at_right)
    while True:
        downhill = bracket.downhill()
        end = torch.where(downhill > 0, bracket.right >= high, bracket.left <= low)
        index = torch.nonzero((downhill != 0) & ~end).flatten()
        if not len(index):
            return bracket
        edge = torch.where(downhill > 0, bracket.right + step, bracket.left - step)
        t = _snapped(edge, low, high, step)[index]
        bracket.put(index, bracket.rows(index).moved(t, finite(f(t, index))))


def _snapped(t: Tensor, low: Tensor, high: Tensor, step: Tensor) -> Tensor:
    """The end itself where less than half a step is left, so that sums of steps meet it exactly."""
    t = torch.where(t > high - step / 2, high, t)
    return torch.where(t < low + step / 2, low, t)


def _off_the_ends(f: Function, bracket: _Bracket, width: float) -> _Bracket:
    """Where an end has the least value: a bracket if it is less just inside, otherwise the end."""
    side = bracket.downhill()
    index = torch.nonzero(side).flatten()
    if not len(index):
        return bracket
    inner = torch.where(side > 0, bracket.right - width / 2, bracket.left + width / 2)[index]
    bracket.put(index, bracket.rows(index).ended(side[index], inner, finite(f(inner, index))))
    return bracket


def _on_grid(f: Function, low: Tensor, high: Tensor, count: int) -> _Bracket:
    """Around the least value of a grid, from its lower end."""
    everyone, shares = torch.arange(len(low)), torch.linspace(0.0, 1.0, count).double()
    grid = torch.stack([low + share * (high - low) for share in shares])
    values = torch.stack([finite(f(t, everyone)) for t in grid])
    middle = values.argmin(0).clamp(1, count - 2)
    places = [(middle + k)[None] for k in (-1, 0, 1)]
    ends = [grid.gather(0, place)[0] for place in places]
    return _Bracket(*ends, *(values.gather(0, place)[0] for place in places))


def finite(values: Tensor) -> Tensor:
    """Inf in the place of nan."""
    return values.double().nan_to_num(torch.inf, torch.inf, -torch.inf)


@dataclass
class _Bracket:
    """left < middle < right, the least value in the middle; no bracket: the middle is an end."""

    left: Tensor
    middle: Tensor
    right: Tensor
    at_left: Tensor
    value: Tensor
    at_right: Tensor

    @property
    def span(self) -> Tensor:
        return self.right - self.left

    def rows(self, index: Tensor) -> _Bracket:
        return _Bracket(*(part[index] for part in vars(self).values()))

    def put(self, index: Tensor, part: _Bracket) -> None:
        for name, value in vars(self).items():
            value[index] = getattr(part, name)

    def downhill(self) -> Tensor:
        """1 where values fall to the right, -1 where they fall to the left, 0 in a bracket."""
        fall = torch.where(self.at_right < self.at_left, 1.0, -1.0).double()
        inside = (self.value <= self.at_left) & (self.value <= self.at_right)
        return torch.where(inside, 0.0, fall)

    def moved(self, t: Tensor, value: Tensor) -> _Bracket:
        """One point on, to the side that t lies on."""
        right = t > self.right
        return _Bracket(
            torch.where(right, self.middle, t),
            torch.where(right, self.right, self.left),
            torch.where(right, t, self.middle),
            torch.where(right, self.value, value),
            torch.where(right, self.at_right, self.at_left),
            torch.where(right, value, self.value),
        )

    def ended(self, side: Tensor, inner: Tensor, value: Tensor) -> _Bracket:
        """The middle moved to ``inner``, a point near the end, or to the end if that is less."""
        right = side > 0
        end = torch.where(right, self.right, self.left)
        at_end = torch.where(right, self.at_right, self.at_left)
        less = value < at_end
        return _Bracket(
            torch.where(right & (self.middle < inner), self.middle, self.left),
            torch.where(less, inner, end),
            torch.where(~right & (self.middle > inner), self.middle, self.right),
            torch.where(right & (self.middle < inner), self.value, self.at_left),
            torch.where(less, value, at_end),
            torch.where(~right & (self.middle > inner), self.value, self.at_right),
        )

    def next(self, least: float, *, golden: bool) -> Tensor:
        """The vertex of the parabola, at least ``least`` off the middle; or a golden section."""
        a, b = self.left - self.middle, self.right - self.middle
        up, down = self.at_left - self.value, self.at_right - self.value
        vertex = (up * b**2 - down * a**2) / (2 * (up * b - down * a))
        wider = torch.where(b > -a, b, a)
        section = GOLDEN * wider
        inner = (vertex > a) & (vertex < b) & vertex.isfinite()
        move = torch.where(inner, vertex, section)
        if golden:
            move = section
        close = move.abs() < least
        move = torch.where(close, least * wider.sign(), move)
        return self.middle + move

    def narrowed(self, t: Tensor, value: Tensor) -> _Bracket:
        """With t inside."""
        better, after = value < self.value, t > self.middle
        left = torch.where(better & after, self.middle, self.left)
        left = torch.where(~better & ~after, t, left)
        at_left = torch.where(better & after, self.value, self.at_left)
        at_left = torch.where(~better & ~after, value, at_left)
        right = torch.where(better & ~after, self.middle, self.right)
        right = torch.where(~better & after, t, right)
        at_right = torch.where(better & ~after, self.value, self.at_right)
        at_right = torch.where(~better & after, value, at_right)
        middle = torch.where(better, t, self.middle)
        return _Bracket(left, middle, right, at_left, torch.minimum(value, self.value), at_right)


def find_root(
    f: Function, low: Tensor, high: Tensor, *, width: float = 0.02, most: int = 60
) -> Found:
    """Where a criterion that grows changes its sign.

    From the middle each row walks outwards in equal steps until the sign changes, then by the
    Illinois variant of regula falsi (Dowell and Jarratt 1971). Rows without a change of sign
    end at an end of [low, high].

    Example:
        >>> zero, one = torch.zeros(1).double(), torch.ones(1).double()
        >>> found = find_root(lambda t, index: t - 0.3, zero, one, width=1e-6)
        >>> round(float(found.at), 6), bool(found.inside)
        (0.3, True)
    """
    at = (low + high) / 2
    around = _Crossing.nowhere(len(low))
    around.put(torch.arange(len(low)), at, f(at, torch.arange(len(low))).double())
    step = (high - low) / 8
    while len(index := torch.nonzero(around.open(low, high)).flatten()):
        at = _snapped(around.last + around.outwards * step, low, high, step)
        around.put(index, at[index], f(at[index], index).double())
    inside = around.closed
    for _ in range(most):
        index = torch.nonzero(inside & (around.above - around.below > width)).flatten()
        if not len(index):
            break
        t = around.secant(index, width / 4)
        around.put(index, t, f(t, index).double())
    return Found(around.last, around.value, inside)


@dataclass
class _Crossing:
    """below < root <= above with their values, and the last point of each row; nan: none yet."""

    below: Tensor
    above: Tensor
    at_below: Tensor
    at_above: Tensor
    last: Tensor
    value: Tensor

    @staticmethod
    def nowhere(rows: int) -> _Crossing:
        return _Crossing(*(torch.full((rows,), torch.nan, dtype=torch.float64) for _ in range(6)))

    @property
    def closed(self) -> Tensor:
        """Rows whose sign changes."""
        return ~self.below.isnan() & ~self.above.isnan()

    @property
    def outwards(self) -> Tensor:
        """To where the other sign is looked for."""
        return torch.where(self.above.isnan(), 1.0, -1.0).double()

    def open(self, low: Tensor, high: Tensor) -> Tensor:
        """Rows that may still find the other sign."""
        end = torch.where(self.above.isnan(), high, low)
        return ~self.closed & (self.last != end)

    def secant(self, index: Tensor, margin: float) -> Tensor:
        """Where the line between both points vanishes, at least ``margin`` inside."""
        below, above = self.below[index], self.above[index]
        share = self.at_below[index] / (self.at_below[index] - self.at_above[index])
        least = (margin / (above - below)).clamp_max(0.5)
        share = torch.minimum(torch.maximum(share.nan_to_num(0.5), least), 1 - least)
        return below + share * (above - below)

    def put(self, index: Tensor, t: Tensor, value: Tensor) -> None:
        """The values there; a side that stays for the second time weighs half (Illinois)."""
        again = (self.value[index] > 0) == (value > 0)
        for side, at, other, chosen in (
            (self.above, self.at_above, self.at_below, value > 0),
            (self.below, self.at_below, self.at_above, ~(value > 0)),
        ):
            rows = index[chosen]
            side[rows], at[rows] = t[chosen], value[chosen]
            other[index[chosen & again]] /= 2
        self.last[index], self.value[index] = t, value
