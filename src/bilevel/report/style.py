"""One style for all charts: inline SVG that takes its colours and fonts from the page around it."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bilevel.report.words import count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "PINK",
    "Chart",
    "chart",
    "curves_chart",
    "finite",
    "logarithmic",
    "marker",
    "variable",
    "whole_steps",
]

BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
"""Told apart by everyone (Okabe and Ito 2008); the page lightens them on dark paper."""
COLOURS = (BLUE, ORANGE, GREEN, PINK)
INK, GREY = "#1d2329", "#8a9199"
_VARIABLES = {
    BLUE: f"var(--blue, {BLUE})",
    ORANGE: f"var(--orange, {ORANGE})",
    GREEN: f"var(--green, {GREEN})",
    PINK: f"var(--pink, {PINK})",
    GREY: f"var(--grey, {GREY})",
    INK: "currentColor",
}
Curve = tuple[str, Sequence[float], str, str]
"""Label, values, colour and line style."""

_DOTTED = 60
_SIZE = (4.9, 3.1)  # inch; text of 9 pt stays legible down to phones
_SETTINGS: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bilevel",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": "cycler('color', ['" + "', '".join(COLOURS) + "'])",
    "axes.unicode_minus": True,
    "grid.color": GREY,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


@dataclass
class Chart:
    """An empty chart to draw on; :attr:`svg` holds the result once its context is left."""

    axes: Axes
    svg: str = field(default="")


@contextmanager
def chart(
    name: str, alt: str, x_label: str, y_label: str, *, size: tuple[float, float] = _SIZE
) -> Generator[Chart]:
    """Draw on ``.axes`` inside; afterwards ``.svg`` is an ``<svg>`` element.

    Args:
        name: unique in a page; prefix of the ids inside.
        alt: what the chart shows, for those who cannot see it.
        x_label: with the unit.
        y_label: with the unit.
        size: width and height [inch].
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=size, layout="constrained")
        drawn = Chart(figure.add_subplot())
        drawn.axes.set_xlabel(x_label)
        drawn.axes.set_ylabel(y_label)
        yield drawn
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawn.svg = _inline(buffer.getvalue(), name, alt)


def logarithmic(axes: Axes, which: str, values: Sequence[float], ratio: float = 3.0) -> None:
    """Make the axis "x" or "y" logarithmic if positive values span more than ``ratio``."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    finite = [v for v in values if math.isfinite(v)]
    if not finite or min(finite) <= 0 or max(finite) < ratio * min(finite):
        return
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    few = max(finite) < 300 * min(finite)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=7))
    axis.set_major_formatter(FuncFormatter(_amount if which == "x" else _power))
    axis.set_minor_formatter(NullFormatter())


def finite(values: Sequence[float]) -> list[float]:
    """With nan, which is not drawn, in the place of infinity."""
    return [v if math.isfinite(v) else math.nan for v in values]


def marker(values: Sequence[float]) -> str:
    """Dots, unless there are too many."""
    return "." if sum(map(math.isfinite, values)) <= _DOTTED else ""


def whole_steps(axes: Axes) -> None:
    """Ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))


def curves_chart(
    name: str, alt: str, y_label: str, steps: Sequence[int], curves: Iterable[Curve]
) -> str:
    """Curves over outer steps, as far as they are finite; those in grey without dots."""
    with chart(name, alt, "outer step", y_label) as drawn:
        everything: list[float] = []
        for label, values, colour, line in curves:
            known = finite(values)
            if any(map(math.isfinite, known)):
                everything += known
                dots = "" if colour == GREY else marker(known)
                drawn.axes.plot(steps, known, line, color=colour, label=label, marker=dots)
        logarithmic(drawn.axes, "y", everything)
        whole_steps(drawn.axes)
        if everything:
            drawn.axes.legend()
    return drawn.svg


def _amount(value: float, position: int | None = None) -> str:
    del position
    return count(round(value))


def _power(value: float, position: int | None = None) -> str:
    del position
    return number(value, 1).replace("1\u00a0×\u00a0", "")


def variable(colour: str) -> str:
    """How a page names one of the colours; others stay as they are."""
    return _VARIABLES.get(colour, colour)


def _inline(svg: str, name: str, alt: str) -> str:
    """Only the element, with colours of the page and ids of its own."""
    body = svg[svg.index("<svg") :].strip()
    head, rest = body.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    rest = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", rest)
    rest = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", rest, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        rest = rest.replace(colour, variable)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    start = f'<svg class="chart" role="img" aria-label="{label}" {box[0] if box else ""}'
    return f"{start}>{rest}"
