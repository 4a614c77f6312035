"""One picture: test accuracies, and the cells that were found."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["chosen", "draw"]

BLUE, ORANGE, GREY, INK = "#0072b2", "#d55e00", "#8a9199", "#1d2329"


def draw(results: dict[str, Any], path: Path) -> None:
    """Accuracies on the left, the three best cells on the right; a PNG at ``path``."""
    from matplotlib.figure import Figure

    best = sorted(results["found"], key=lambda name: -_validation(results["found"][name]))[:3]
    figure = Figure(figsize=(10.5, 6.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    _accuracies(left.add_subplot(), results)
    axes = right.subplots(len(best), 1, squeeze=False)[:, 0]
    for panel, name in zip(axes, best, strict=True):
        entry = results["found"][name]
        _cell(panel, entry["cell"], f"{name}: {_validation(entry):.1f} % of the validation samples")
    figure.savefig(path, dpi=110)


def chosen(results: dict[str, Any]) -> str:
    """The search whose cell is best on the validation samples, after training from scratch."""
    return max(results["found"], key=lambda name: _validation(results["found"][name]))


def _validation(entry: dict[str, Any]) -> float:
    return 100 * statistics.mean(entry["validation"])


def _accuracies(axes: Axes, results: dict[str, Any]) -> None:
    random = sorted(100 * statistics.mean(entry["accuracy"]) for entry in results["random"])
    mean, spread = statistics.mean(random), statistics.stdev(random)
    rows = [*results["found"], "random cells"]
    axes.axvspan(mean - spread, mean + spread, color=GREY, alpha=0.2, lw=0)
    axes.axvline(mean, color=GREY, lw=1, label="random: mean ± standard deviation")
    for row, entry in enumerate(results["found"].values()):
        seeds = [100 * a for a in entry["accuracy"]]
        axes.plot(seeds, [row] * len(seeds), "|", color=BLUE, ms=9, alpha=0.6)
        axes.plot(statistics.mean(seeds), row, "o", color=BLUE)
        axes.annotate(
            f"{statistics.mean(seeds):.1f}", (statistics.mean(seeds), row), (0, 7),
            textcoords="offset points", ha="center", va="bottom", color=INK, fontsize=9,
        )  # fmt: skip
    axes.plot(random, [len(rows) - 1] * len(random), "o", color=ORANGE, alpha=0.6)
    axes.set_yticks(
        range(len(rows)), [row.replace(", differences", ",\ndifferences") for row in rows]
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("test accuracy [%]; dots: mean of 3 seeds, ticks: seeds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=8)


def _cell(axes: Axes, cell: dict[str, str], title: str) -> None:
    """Nodes from left to right; edges over more than one node as arcs."""
    edges = {tuple(map(int, key.split("-"))): name for key, name in cell.items()}
    nodes = 1 + max(j for _, j in edges)
    for (i, j), name in edges.items():
        length = j - i
        side = 0.0 if length == 1 else (1.0 if (i + j) % 2 == 0 else -1.0)
        bend = -0.35 * side
        axes.annotate(
            "", (j, 0), (i, 0),
            arrowprops={
                "arrowstyle": "-|>", "color": INK, "lw": 1.1, "shrinkA": 11, "shrinkB": 11,
                "connectionstyle": f"arc3,rad={bend}",
            },
        )  # fmt: skip
        axes.text(
            (i + j) / 2, 0.19 * side * length if side else 0.09, name, ha="center",
            va="center" if side else "bottom", fontsize=8.5, color=BLUE,
            bbox={"fc": "white", "ec": "none", "pad": 1.5} if side else None,
        )  # fmt: skip
    for node in range(nodes):
        axes.plot(node, 0, "o", ms=19, mfc="white", mec=INK)
        axes.text(node, 0, "in" if node == 0 else str(node), ha="center", va="center", fontsize=9)
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xlim(-0.3, nodes - 0.7)
    axes.set_ylim(-1.0, 0.75)
    axes.axis("off")
