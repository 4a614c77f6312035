"""Charts of chosen weights: where each rule ended, and the curve that it followed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bilevel.report.choices import Chosen, Compared
from bilevel.report.race_figures import Look, looks_of
from bilevel.report.style import GREY, INK, chart
from bilevel.report.words import number
from bilevel.select import Choice, Outcome
from bilevel.select.compare import LEARNED, ORACLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SHAPES", "criterion_chart", "drawable", "quality_chart", "styles", "weights_chart"]

SHAPES = {
    "o": "M5 .7A4.3 4.3 0 1 1 4.99 .7Z",
    "s": "M1.2 1.2H8.8V8.8H1.2Z",
    "D": "M5 0L10 5L5 10L0 5Z",
    "^": "M5 .5L9.6 9.2H.4Z",
    "v": "M5 9.5L9.6 .8H.4Z",
    "P": "M3.3 0H6.7V3.3H10V6.7H6.7V10H3.3V6.7H0V3.3H3.3Z",
    "X": "M2.2 0L5 2.8L7.8 0L10 2.2L7.2 5L10 7.8L7.8 10L5 7.2L2.2 10L0 7.8L2.8 5L0 2.2Z",
    "*": "M5 0L6.3 3.6L10 3.7L7.1 6L8.1 9.6L5 7.5L1.9 9.6L2.9 6L0 3.7L3.7 3.6Z",
}
"""Outlines of the marks in a box of 10 by 10, for legends."""

_STEEP = 30.0
"""Criteria that vary by a larger factor are drawn on a logarithmic scale."""


def styles(names: Sequence[str]) -> dict[str, Look]:
    """One look for each name; what is no rule has no colour."""
    rules = looks_of(name for name in names if name not in (LEARNED, ORACLE))
    special = {LEARNED: Look(INK, "solid", "*"), ORACLE: Look(GREY, "solid", "o")}
    return {name: special.get(name) or rules[name] for name in names}


def weights_chart(rows: Sequence[Chosen], looks: Mapping[str, Look]) -> str:
    """The weight that each rule chose for every image; over the oracle's where that is known."""
    best = {r.image: r.weight for r in rows if r.rule == ORACLE}
    shown = [n for n in looks if not (best and n == ORACLE)]
    label = "weight / weight of the oracle" if best else "weight"
    alt = f"{label} for {', '.join(shown)}"
    with chart("weights", alt, label, "", size=(4.9, 0.75 + 0.27 * len(shown))) as drawn:
        axes = drawn.axes
        if best:
            axes.axvline(1.0, color=GREY, lw=1.0, linestyle=(0, (4, 3)))
        weights: list[float] = []
        for height, name in enumerate(shown):
            for row in (r for r in rows if r.rule == name and r.image in (best or {r.image})):
                weight = row.weight / best.get(row.image, 1.0)
                weights.append(weight)
                _mark(axes, weight, height, looks[name], found=row.outcome is Outcome.FOUND)
        axes.set_yticks(range(len(shown)), shown)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        _weights(axes, [*weights, *([1.0] if best else [])], least=3.0)
    return drawn.svg


def quality_chart(compared: Compared, k: int, looks: Mapping[str, Look], place: str) -> str:
    """PSNR of image k over the weight, with what each rule chose; needs the oracle.

    ``place`` is unique in a page.
    """
    comparison = compared.comparison
    weights, squares = _points(comparison.choices[ORACLE], k)
    levels = [-10 * math.log10(max(square, 1e-24)) for square in squares]
    alt = f"PSNR of {compared.ids[k]} over the weight, with the weights chosen"
    with chart(f"quality-{place}", alt, "weight", "PSNR [dB]") as drawn:
        axes = drawn.axes
        axes.plot(weights, levels, "-", color=GREY, lw=1.4, zorder=2)
        axes.plot(weights, levels, ".", color=GREY, ms=3, zorder=2)
        marked: list[float] = []
        for name, choice in comparison.choices.items():
            at = float(choice.weight[k])
            level = -20 * math.log10(max(float(comparison.error(name)[k]), 1e-12))
            marked.append(level)
            found = choice.outcome[k] is Outcome.FOUND
            _mark(axes, at, level, looks[name], found=found)
        _weights(axes, weights)
        _focus(axes, marked, levels)
    return drawn.svg


def criterion_chart(
    compared: Compared, k: int, name: str, look: Look, place: str, *, wide: bool
) -> str:
    """What a rule looked at for image k, its choice, and the weight of the oracle."""
    comparison = compared.comparison
    choice = comparison.choices[name]
    x, y = _points(choice, k)
    alt = f"criterion of {name} for {compared.ids[k]} over the weight"
    size = (4.9, 2.9) if wide else (3.3, 2.2)
    with chart(f"criterion-{place}", alt, "weight", "criterion", size=size) as drawn:
        axes = drawn.axes
        axes.set_title(name, loc="left", fontsize=10, color=INK)
        if ORACLE in comparison.choices:
            best = float(comparison.choices[ORACLE].weight[k])
            axes.axvline(best, color=GREY, lw=1.0, linestyle=(0, (4, 3)))
        if _crosses(y):
            axes.axhline(0.0, color=GREY, lw=0.8)
        axes.plot(x, y, "-", color=look.colour, lw=1.5, zorder=3)
        axes.plot(x, y, ".", color=look.colour, ms=4, zorder=3)
        at, value = float(choice.weight[k]), float(choice.value[k])
        if math.isfinite(value):
            _mark(axes, at, value, look, found=choice.outcome[k] is Outcome.FOUND, size=9)
        _weights(axes, x)
        _heights(axes, y)
    return drawn.svg


def drawable(choice: Choice, k: int, name: str) -> bool:
    """Whether there is a curve: more than one weight has a value."""
    return name != LEARNED and len(_points(choice, k)[0]) > 1


def _points(choice: Choice, k: int) -> tuple[list[float], list[float]]:
    """Weights and values of row k where the criterion is finite."""
    pairs = [(float(w), float(v)) for w, v in zip(*choice.curve.row(k), strict=True)]
    known = [(w, v) for w, v in pairs if math.isfinite(v)]
    return [w for w, _ in known], [v for _, v in known]


def _mark(axes: Axes, x: float, y: float, look: Look, *, found: bool, size: float = 7) -> None:
    """Filled where the rule stands behind the weight, hollow where it does not."""
    face = look.colour if found else "none"
    axes.plot(
        [x],
        [y],
        look.marker,
        color=look.colour,
        mfc=face,
        mew=1.4,
        ms=size,
        zorder=5,
        clip_on=False,
    )


def _weights(axes: Axes, weights: Sequence[float], least: float = 1.0) -> None:
    """A logarithmic axis around the weights, at least a factor ``least`` to either side."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(weights), max(weights)
    middle = math.sqrt(low * high)
    low, high = min(low, middle / least) / 1.15, max(high, middle * least) * 1.15
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    narrow = high < 100 * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _heights(axes: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter

    if values and min(values) > 0 and max(values) > _STEEP * min(values):
        axes.set_yscale("log")
        axes.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _crosses(values: Sequence[float]) -> bool:
    return bool(values) and min(values) < 0 < max(values)


def _focus(axes: Axes, marked: Sequence[float], all_levels: Sequence[float]) -> None:
    """All choices and the top of the curve; what lies far below is cut off."""
    top = max([*marked, *all_levels])
    low = max(min([*marked, *all_levels]), min(marked) - 6)
    axes.set_ylim(low - 0.4, top + 0.6)


def _short(value: float, position: int | None = None) -> str:
    """With as few digits as tell it, at most three."""
    del position
    rounded = [float(f"{value:.{digits}e}") for digits in range(3)]
    near = [abs(one - value) <= 1e-3 * abs(value) for one in rounded]
    digits = near.index(True) + 1 if any(near) else 3
    return number(value, digits).replace("1\u00a0×\u00a0", "")
