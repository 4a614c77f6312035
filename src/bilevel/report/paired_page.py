"""One self-contained HTML page that sets several methods beside each other on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bilevel.ground.contrast import window_of
from bilevel.report.claims import claims
from bilevel.report.gallery import Tile, shown_side, shown_tile
from bilevel.report.page import render
from bilevel.report.paired import Difference, Method, Methods
from bilevel.report.standing import Claim, Standing
from bilevel.report.style import BLUE, GREY, INK, ORANGE, chart
from bilevel.report.words import decibels, difference, for_peak, gain, level, plural, proved

__all__ = ["Seen", "methods_page", "methods_verdict"]


@dataclass(frozen=True, eq=False)
class Seen:
    """One image (c, h, w): the truth, what one has without reconstruction, and by each method."""

    id: str
    target: Tensor
    before: Tensor
    after: Mapping[str, Tensor]


def methods_page(
    methods: Methods,
    seen: Sequence[Seen],
    *,
    configuration: Mapping[str, Any] | None = None,
    remarks: Sequence[str] = (),
    title: str = "Evaluation",
) -> str:
    """The report of several methods on the same data: one HTML page that fetches nothing.

    Args:
        methods: at least one; the first is what the others are compared with.
        seen: some of the images.
        configuration: how the data were made, plain data that are shown as TOML.
        remarks: sentences on what differs between the methods.
        title: headline.
    """
    paired = len(methods.methods) > 1
    side = _side(seen, len(methods.methods) + 2)
    context = {
        "hero": None,
        "hero_group": "",
        "lede": [*methods_verdict(methods), for_peak(methods.reference.scores.peak)],
        "remarks": remarks,
        "reference": methods.reference.name,
        "paired": paired,
        "tiles": _tiles(methods),
        "headings": methods.headings,
        "lines": list(methods.lines()),
        "best": methods.best.name,
        "differences": _differences_chart(methods) if paired else "",
        "rows": list(_rows(methods)),
        "names": [method.name for method in methods.methods],
        "cards": [_card(one, methods, side) for one in seen],
        "images": len(methods.reference.scores),
        "claims": _claims(methods),
    }
    return render("paired.html.jinja", title, configuration, context)


def _side(seen: Sequence[Seen], tiles: int) -> int:
    """Of the pictures, so that all of them take what the cards of other pages take."""
    channels = max((min(one.target.shape[0], 3) for one in seen), default=1)
    values = len(seen) * tiles * channels
    return shown_side(-(-values // (3 * channels + 2)), channels)


def methods_verdict(methods: Methods) -> list[str]:
    """Which method is nearest to the truth, and whether the images can tell."""
    images, best, first = plural(len(methods.reference.scores), "image"), methods.best, "PSNR"
    mean = best.scores.mean
    if len(methods.methods) == 1:
        return [
            f"{best.name} raises {first} on {images} by {gain(mean.gain)} on average, from "
            f"{decibels(mean.psnr_before)} to {decibels(mean.psnr_after)}."
        ]
    text = (
        f"Of {len(methods.methods)} methods, {best.name} comes nearest to the truth: "
        f"{decibels(mean.psnr_after)} on average on {images}."
    )
    if best is methods.reference:
        others = [(m, methods.difference(m)) for m in methods.methods if m is not best]
        near, found = max(others, key=lambda one: one[1].mean)
        return [text, _told(near, best, found)]
    return [text, _told(best, methods.reference, methods.difference(best))]


def _told(one: Method, other: Method, found: Difference) -> str:
    """A difference, and whether it is more than chance."""
    images = len(found.values)
    size = f"{one.name} less {other.name}: {gain(found.mean)} in the mean"
    if images < 2:
        return f"{size}; one image tells nothing of the spread."
    spread = (
        f"{size}, standard error {decibels(found.standard_error)}, "
        f"better on {found.better} of {images}"
    )
    if found.told:
        return f"{spread}."
    return f"{spread}: so many images do not tell them apart (less than two standard errors)."


def _tiles(methods: Methods) -> list[tuple[str, str, str]]:
    """Label, value, detail."""
    best = methods.best
    mean = best.scores.mean
    found = [
        ("Nearest to the truth", best.name, f"{decibels(mean.psnr_after)} in the mean"),
        ("Mean gain", gain(mean.gain), f"{decibels(mean.psnr_before)} before"),
    ]
    worst = max(method.scores.mean.certificate for method in methods.methods)
    detail = "grey values (rms), at worst of all methods"
    return [*found, ("Proved accuracy", proved(worst), detail)]


def _rows(methods: Methods) -> list[dict[str, object]]:
    """One image a row: every method's PSNR, and its difference to the first."""
    found = [methods.difference(method).values for method in methods.methods]
    return [
        {
            "id": row.id,
            "before": level(row.psnr_before),
            "cells": [
                (level(method.scores.rows[k].psnr_after), difference(found[m][k]) if m else "")
                for m, method in enumerate(methods.methods)
            ],
        }
        for k, row in enumerate(methods.reference.scores.rows)
    ]


def _differences_chart(methods: Methods) -> str:
    """Every image a dot, the mean with two standard errors to either side."""
    others = [m for m in methods.methods if m is not methods.reference]
    name = methods.reference.name
    means = ", ".join(f"{m.name} {gain(methods.difference(m).mean)}" for m in others)
    size = (7.4, 1.1 + 0.45 * len(others))
    label = f"PSNR less that of {name} [dB]"
    with chart("differences", f"Differences to {name}: {means}", label, "", size=size) as drawn:
        axes = drawn.axes
        axes.axvline(0.0, color=GREY, lw=1.0, linestyle=(0, (4, 3)))
        for height, method in enumerate(others):
            found = methods.difference(method)
            places = [height + 0.18 * _spread(k) for k in range(len(found.values))]
            axes.plot(found.values, places, "o", color=BLUE, ms=4, alpha=0.45, mew=0)
            reach = 2 * found.standard_error
            axes.errorbar([found.mean], [height], xerr=[reach], color=ORANGE, lw=1.8, capsize=4)
            axes.plot([found.mean], [height], "D", color=ORANGE, mec=INK, ms=6)
        axes.set_yticks(range(len(others)), [m.name for m in others])
        axes.set_ylim(len(others) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
    return drawn.svg


def _spread(k: int) -> float:
    """Between -1 and 1, so that dots do not lie on one another."""
    return 2 * ((k * 0.618034) % 1.0) - 1


def _card(one: Seen, methods: Methods, side: int) -> dict[str, object]:
    window = window_of(one.target)
    tiles: list[Tile] = [shown_tile(one.before, "Before", "", one.id, side, window)]
    for method in methods.methods:
        row = next(row for row in method.scores.rows if row.id == one.id)
        caption, x = decibels(row.psnr_after), one.after[method.name]
        tiles.append(shown_tile(x, method.name, caption, one.id, side, window))
    tiles.append(shown_tile(one.target, "Truth", "", one.id, side, window))
    h, w = one.target.shape[-2:]
    part = min(side, h), min(side, w)
    note = "" if part == (h, w) else f"middle {part[0]} × {part[1]} of {h} × {w} pixels"
    return {"id": one.id, "note": note, "size": part, "tiles": tiles}


def _claims(methods: Methods) -> list[Claim]:
    """What is proved of each method's reconstructions, and what differences mean."""
    found = [
        Claim(claim.standing, f"{method.name}: {claim.text}")
        for method in methods.methods
        for claim in claims(method.scores)
    ]
    text = (
        "Differences hold for these images and this noise: their standard errors say how far "
        "other images of the same kind may move the mean, nothing about other kinds."
    )
    return [*found, Claim(Standing.OPEN, text)] if len(methods.methods) > 1 else found
