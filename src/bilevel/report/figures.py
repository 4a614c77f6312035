"""Charts of a fit and of scores, each one an ``<svg>`` element for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bilevel.learn import Record
from bilevel.model.losses import SquaredError
from bilevel.report.comparison import Scores
from bilevel.report.style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    chart,
    curves_chart,
    finite,
    logarithmic,
    marker,
    whole_steps,
)
from bilevel.report.words import decibels, gain, number, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "accuracy_chart",
    "gains_chart",
    "gradient_chart",
    "loss_chart",
    "paths_chart",
    "psnr_chart",
]

_COST = "gradient evaluations of the lower level"
_STEP = "outer step"
_LABELLED = 24


def loss_chart(history: Sequence[Record], unit: str = SquaredError.unit) -> str:
    """Mean loss against what it cost, with its proved interval where there is one."""
    cost, loss = _cost(history), [r.value for r in history]
    alt = f"Mean training loss from {number(loss[0])} to {number(loss[-1])}"
    with chart("loss", alt, _COST, with_unit("mean loss", unit)) as drawn:
        axes = drawn.axes
        axes.plot(cost, loss, color=BLUE, label="loss", marker=marker(loss))
        low, high = axes.get_ylim()
        proved = [math.isfinite(r.interval) for r in history]
        if any(proved):
            reach = [r.interval if ok else 0.0 for r, ok in zip(history, proved, strict=True)]
            bottom = [r.corrected - w for r, w in zip(history, reach, strict=True)]
            top = [r.corrected + w for r, w in zip(history, reach, strict=True)]
            axes.fill_between(
                cost,
                bottom,
                top,
                where=proved,
                color=BLUE,
                alpha=0.2,
                lw=0,
                label="proved interval",
            )
            axes.legend()
        logarithmic(axes, "x", cost, ratio=20.0)
        logarithmic(axes, "y", loss)
        axes.set_ylim(_positive(axes, low, loss), high)
    return drawn.svg


def psnr_chart(history: Sequence[Record]) -> str:
    """PSNR of the mean loss against what it cost."""
    cost, level = _cost(history), finite([r.psnr for r in history])
    alt = f"PSNR of the mean loss from {decibels(level[0])} to {decibels(level[-1])}"
    with chart("psnr", alt, _COST, "PSNR of the mean loss [dB]") as drawn:
        drawn.axes.plot(cost, level, color=GREEN, marker=marker(level))
        logarithmic(drawn.axes, "x", cost, ratio=20.0)
    return drawn.svg


def accuracy_chart(history: Sequence[Record]) -> str:
    """Accuracy asked of the lower level and largest certificate, over outer steps."""
    steps, asked = [r.step for r in history], [r.accuracy for r in history]
    reached = finite([r.certificate for r in history])
    missed = [i for i, r in enumerate(history) if r.uncertified]
    alt = "Accuracy of the lower level asked for, and largest certified distance, over outer steps"
    with chart("accuracy", alt, _STEP, "rms accuracy [grey value]") as drawn:
        axes = drawn.axes
        axes.step(steps, asked, where="mid", color=BLUE, label="asked for, ε")
        if any(map(math.isfinite, reached)):
            axes.plot(steps, reached, ".", color=ORANGE, label="largest certificate")
            shown = [reached[i] for i in missed]
            if any(map(math.isfinite, shown)):
                axes.scatter(
                    [steps[i] for i in missed],
                    shown,
                    s=49,
                    facecolors="none",
                    edgecolors=ORANGE,
                    linewidths=0.8,
                    label="some samples missed ε",
                )
        else:
            note = "no distance is proved; ε bounds the rms of the lower-level gradient"
            axes.set_title(note, fontsize=8.5, color=GREY)
        logarithmic(axes, "y", [*asked, *reached])
        whole_steps(axes)
        axes.legend()
    return drawn.svg


def gradient_chart(history: Sequence[Record], unit: str = SquaredError.unit) -> str:
    """Norm of the hypergradient with the bound and the estimate of its error, over outer steps."""
    steps = [r.step for r in history]
    curves = (
        ("norm", [r.gradient_norm for r in history], BLUE, "-"),
        ("proved error", [r.error for r in history], ORANGE, "--"),
        ("estimated error", [r.estimate for r in history], GREEN, ":"),
    )
    alt = (
        f"Norm of the hypergradient, {number(history[-1].gradient_norm)} at the end, and its error"
    )
    return curves_chart("gradient", alt, with_unit("hypergradient", unit), steps, curves)


def paths_chart(history: Sequence[Record], values: Mapping[str, Sequence[float]]) -> str:
    """Scalar parameters over outer steps; ``values`` by label."""
    steps = [r.step for r in history]
    ends = ", ".join(f"{name} ends at {number(v[-1])}" for name, v in values.items())
    curves = (
        (label, path, COLOURS[i % len(COLOURS)], ("-", "--", "-.", ":")[i % 4])
        for i, (label, path) in enumerate(values.items())
    )
    return curves_chart("paths", f"Scalar parameters: {ends}", "value", steps, curves)


def gains_chart(groups: Mapping[str, Scores]) -> str:
    """PSNR of every image before and after, sorted by gain; one colour a group."""
    rows = sorted(
        ((row, k) for k, scores in enumerate(groups.values()) for row in scores.rows),
        key=lambda pair: pair[0].gain,
    )
    means = ", ".join(f"{name}: {gain(scores.mean.gain)}" for name, scores in groups.items())
    labelled = len(rows) <= _LABELLED
    height = 1.1 + 0.24 * len(rows) if labelled else 5.0
    alt = f"PSNR of every image before and after; mean gain {means}"
    with chart("gains", alt, "PSNR [dB]", "", size=(7.4, height)) as drawn:
        axes = drawn.axes
        before = finite([row.psnr_before for row, _ in rows])
        after = finite([row.psnr_after for row, _ in rows])
        places = list(range(len(rows)))
        axes.hlines(places, before, after, color=GREY, lw=1.4, alpha=0.6)
        axes.plot(before, places, "o", color=GREY, label="before", ms=4.5)
        for k, name in enumerate(groups):
            own = [i for i in places if rows[i][1] == k]
            colour, shape = (BLUE, ORANGE)[k % 2], "oD"[k % 2]
            axes.plot([after[i] for i in own], own, shape, color=colour, label=name, ms=5)
        axes.grid(visible=False, axis="y")
        names = [_short(row.id) for row, _ in rows]
        axes.set_yticks(places if labelled else [], names if labelled else [])
        axes.set_ylim(-0.8, len(rows) - 0.2)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(groups) + 1)
    return drawn.svg


def _cost(history: Sequence[Record]) -> list[float]:
    return [float(r.cost.gradient_evaluations) for r in history]


def _positive(axes: Axes, low: float, values: Sequence[float]) -> float:
    """A lower limit that a logarithmic axis can have."""
    if axes.get_yscale() == "log" and low <= 0:
        return min(v for v in values if v > 0) / 1.5
    return low


def _short(name: str, length: int = 28) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
