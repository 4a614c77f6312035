"""Charts of a race: what every algorithm had reached at which cost, one colour an algorithm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilevel.learn import Entry, Race, Record
from bilevel.report.style import BLUE, GREEN, GREY, ORANGE, PINK, chart, logarithmic, variable
from bilevel.report.words import count, number, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MEASURES", "Look", "gap_chart", "looks", "looks_of", "norm_chart", "resolution"]

AMBER, PURPLE = "#b58900", "#7a6fd0"
_COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, PURPLE)
_DASHES = ("solid", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))
_MARKERS = "osD^vPX*"

MEASURES: Mapping[str, tuple[str, Callable[[Record], float]]] = {
    "gradients": ("gradient evaluations", lambda r: float(r.cost.gradient_evaluations)),
    "work": (
        "gradient evaluations + Hessian-vector products",
        lambda r: float(r.cost.gradient_evaluations + r.cost.hvps),
    ),
    "seconds": ("time [s]", lambda r: r.cost.seconds),
}


@dataclass(frozen=True)
class Look:
    """How an algorithm is drawn."""

    colour: str
    dash: str | tuple[float, tuple[float, ...]]
    marker: str

    @property
    def css(self) -> str:
        """The colour, from the page where it has it."""
        return variable(self.colour)

    @property
    def array(self) -> str:
        """The dash as SVG writes it."""
        return "" if isinstance(self.dash, str) else " ".join(str(d) for d in self.dash[1])


def looks(race: Race) -> dict[str, Look]:
    """One for each algorithm."""
    return looks_of(e.name for e in race.entries)


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """One for each name; colours first, then dashes."""
    return {
        name: Look(
            _COLOURS[k % len(_COLOURS)],
            _DASHES[k // len(_COLOURS) % len(_DASHES)],
            _MARKERS[k % len(_MARKERS)],
        )
        for k, name in enumerate(names)
    }


def resolution(race: Race) -> float:
    """Losses nearer to the best than this cannot be told from it: the largest final interval.

    Estimated where it is not proved; at least the rounding of the best loss.
    """
    finals = [e.final for e in race.ranked]
    ends = [f.interval if math.isfinite(f.interval) else f.interval_estimate for f in finals]
    known = [end for end in ends if math.isfinite(end)]
    return max([*known, 1e-7 * abs(race.best.final.corrected), 1e-300])


def gap_chart(race: Race, measure: str) -> str:
    """Loss less the best final loss, with its proved interval, against one measure of cost.

    Each line ends with the last look. Earlier looks that lie below the best loss by more than
    can be told are less accurate than it, and are left out.
    """
    best, least = race.best.final.corrected, resolution(race)

    def curve(entry: Entry) -> list[tuple[float, float]]:
        early = [(r.corrected - best, r.interval) for r in entry.fit.history[:-1]]
        known = [(v if v >= -least else math.nan, e) for v, e in early]
        return [*known, (entry.final.corrected - best, entry.final.interval)]

    return _chart(race, f"gap-{measure}", "loss − best loss", measure, curve, least)


def norm_chart(race: Race, measure: str) -> str:
    """Norm of the projected gradient with its proved error, against one measure of cost."""

    def curve(entry: Entry) -> list[tuple[float, float]]:
        early = [(r.projected, r.error) for r in entry.fit.history[:-1]]
        return [*early, (entry.projected, entry.final.error)]

    return _chart(race, f"norm-{measure}", "projected gradient", measure, curve, None)


def _chart(
    race: Race,
    name: str,
    label: str,
    measure: str,
    curve: Callable[[Entry], list[tuple[float, float]]],
    least: float | None,
) -> str:
    heading, amount = MEASURES[measure]
    unit = race.winner.fit.unit
    styles = looks(race)
    alt = f"{label} against {heading} for {', '.join(styles)}"
    with chart(name, alt, heading, with_unit(label, unit), size=(4.0, 3.1)) as drawn:
        axes = drawn.axes
        costs, heights = list[float](), list[float]()
        for entry in race.entries:
            points = zip(map(amount, entry.fit.history), curve(entry), strict=True)
            seen = [(cost, pair) for cost, pair in points if math.isfinite(pair[0])]
            x, pairs = [cost for cost, _ in seen], [pair for _, pair in seen]
            middle = [_raised(v, least) for v, _ in pairs]
            _draw(axes, x, middle, styles[entry.name], best=entry is race.winner)
            _band(axes, x, pairs, styles[entry.name].colour, least)
            costs += x
            heights += middle
        shown = [v for v in heights if math.isfinite(v) and v > 0]
        logarithmic(axes, "x", [c for c in costs if c > 0])
        logarithmic(axes, "y", shown)
        _ticks(axes, costs, seconds=measure == "seconds")
        if shown:
            low, high = min(shown), max(shown)
            axes.set_ylim(low / (high / low) ** 0.06 / 1.05, high * (high / low) ** 0.06 * 1.05)
        if least is not None and least in heights:
            axes.axhline(least, color=GREY, lw=0.8, linestyle=(0, (2, 2)))
            note = f"nearer than {number(least, 2)}: not told apart"
            axes.annotate(
                note,
                (0.0, least),
                (3, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                color=GREY,
                fontsize=7.5,
            )
    return drawn.svg


def _draw(axes: Axes, x: Sequence[float], y: Sequence[float], look: Look, *, best: bool) -> None:
    """A line with its steps, and a mark where it ends."""
    width = 2.2 if best else 1.5
    axes.plot(x, y, color=look.colour, linestyle=look.dash, lw=width, zorder=3)
    ends = [k for k, v in enumerate(y) if math.isfinite(v)]
    if ends:
        axes.plot(x[ends[-1]], y[ends[-1]], look.marker, color=look.colour, ms=6, zorder=4)


def _band(
    axes: Axes,
    x: Sequence[float],
    pairs: Sequence[tuple[float, float]],
    colour: str,
    least: float | None,
) -> None:
    """Where the true value is proved to lie; not for norms whose error exceeds them."""
    known = [math.isfinite(v) and e <= (v if least is None else math.inf) for v, e in pairs]
    known = [ok and math.isfinite(e) for ok, (_, e) in zip(known, pairs, strict=True)]
    if not any(known):
        return
    floor = 1e-300 if least is None else least
    low = [max(v - e, floor) if ok else floor for (v, e), ok in zip(pairs, known, strict=True)]
    high = [max(v + e, floor) if ok else floor for (v, e), ok in zip(pairs, known, strict=True)]
    axes.fill_between(x, low, high, where=known, color=colour, alpha=0.08, lw=0)


def _raised(value: float, least: float | None) -> float:
    """Not below what can be told; gaps where there is nothing."""
    if not math.isfinite(value):
        return math.nan
    return value if least is None else max(value, least)


def _ticks(axes: Axes, costs: Sequence[float], *, seconds: bool) -> None:
    """Few enough that they do not touch."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    if axes.get_xscale() != "log":
        return
    wide = max(costs) > 1e3 * min(c for c in costs if c > 0)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0), numticks=7))

    def write(value: float, position: int | None = None) -> str:
        del position
        return number(value, 2) if seconds else count(round(value))

    axes.xaxis.set_major_formatter(FuncFormatter(write))
