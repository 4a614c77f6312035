"""Pictures of reproductions: images side by side, banks of filters, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from bilevel.report.style import COLOURS

__all__ = ["draw_curves", "draw_filters", "draw_images", "draw_maps"]


def draw_images(
    images: Mapping[str, Tensor], path: Path, *, window: tuple[float, float] = (0.0, 1.0)
) -> None:
    """Images (1, 1, h, w) [grey value] side by side under their names; of large ones the middle."""
    from matplotlib.figure import Figure

    from bilevel.data import centre_crop

    columns = min(len(images), 4)
    lines = -(-len(images) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.75 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, x) in zip(axes, images.items(), strict=False):
        side = min(160, *x.shape[2:])
        shown = centre_crop(x, side)[0, 0].detach().cpu().numpy()
        axis.imshow(shown, cmap="gray", vmin=window[0], vmax=window[1])
        axis.set_title(name, fontsize=9)
    figure.savefig(path, dpi=100)


def draw_maps(
    images: Mapping[str, Tensor], maps: Mapping[str, tuple[Tensor, str]], path: Path
) -> None:
    """Images (1, 1, h, w) [grey value] above as many maps (h, w), each with its colours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.9 * len(images), 5.6), layout="constrained")
    above, below = figure.subplots(2, len(images), squeeze=False)
    for axis, (name, x) in zip(above, images.items(), strict=True):
        axis.imshow(x[0, 0].cpu().numpy(), cmap="gray", vmin=0.0, vmax=1.0)
        axis.set_title(name, fontsize=9)
    for axis, (name, (field, colours)) in zip(below, maps.items(), strict=True):
        figure.colorbar(axis.imshow(field.cpu().numpy(), cmap=colours), ax=axis, shrink=0.8)
        axis.set_title(name, fontsize=9)
    for axis in (*above, *below):
        axis.set_axis_off()
    figure.savefig(path, dpi=100)


def draw_filters(filters: Tensor, weights: Tensor, path: Path) -> None:
    """Filters (m, 1, k, k), the largest weight (m,) first."""
    from matplotlib.figure import Figure

    columns = min(len(filters), 12)
    lines = -(-len(filters) // columns)
    figure = Figure(figsize=(0.75 * columns, 0.95 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    order = weights.argsort(descending=True).tolist()
    for axis, j in zip(axes, order, strict=False):
        tap = filters[j, 0].cpu().numpy()
        top = float(abs(tap).max()) or 1.0
        axis.imshow(tap, cmap="gray", vmin=-top, vmax=top)
        axis.set_title(f"{float(weights[j]):.2g}", fontsize=7)
    figure.savefig(path, dpi=100)


def draw_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: Path,
    *,
    x: str,
    y: str,
    logarithmic: str = "",
) -> None:
    """Lines of (x, y) with a legend; ``logarithmic`` names the axes, "x", "y" or "xy"."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for k, (name, (across, up)) in enumerate(curves.items()):
        colour = COLOURS[k % len(COLOURS)]
        axes.plot(across, up, label=name, color=colour, marker="." if len(up) < 60 else "")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if "x" in logarithmic:
        axes.set_xscale("log")
    if "y" in logarithmic:
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)
