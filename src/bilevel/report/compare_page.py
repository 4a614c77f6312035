"""One self-contained HTML page: which weight each rule chose, and what became of the images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch import Tensor

from bilevel.ground.contrast import window_of
from bilevel.ground.errors import InputError
from bilevel.report.choices import (
    Chosen,
    Compared,
    Summary,
    chosen,
    failures,
    names,
    summaries,
)
from bilevel.report.compare_figures import (
    SHAPES,
    criterion_chart,
    drawable,
    quality_chart,
    styles,
    weights_chart,
)
from bilevel.report.compare_words import (
    LEVEL,
    advices,
    agreement,
    central,
    compare_claims,
    compare_verdict,
    ended,
    nearest,
    useful,
)
from bilevel.report.gallery import Tile, shown_tile
from bilevel.report.page import render
from bilevel.report.race_figures import Look
from bilevel.report.words import (
    count,
    decibels,
    difference,
    duration,
    level,
    number,
    similarity,
)
from bilevel.select.compare import LEARNED, ORACLE

__all__ = ["SHOWN", "compare_page"]

SHOWN = 4
"""So many images are shown, the first; the table holds all."""
_BYTES, _LARGEST = 6_000_000, 1024


@dataclass(frozen=True)
class _Card:
    """One image: the data, every reconstruction, the truth if it is known; and its curves."""

    id: str
    note: str
    size: tuple[int, int]
    tiles: tuple[Tile, ...]
    quality: str
    curves: tuple[str, ...]


def compare_page(
    compared: Sequence[Compared],
    *,
    configuration: Mapping[str, Any] | None = None,
    title: str = "Choosing the weight",
) -> str:
    """The report of chosen weights: one HTML page that fetches nothing.

    Args:
        compared: one for each size of image, with what one rule or several chose.
        configuration: plain data, shown as TOML.
        title: headline.

    Raises:
        InputError: nothing was chosen.
    """
    found = summaries(compared)
    if not found:
        raise InputError("nothing was chosen", given=dict(failures(compared)) or None)
    rows, looks = chosen(compared), styles(names(compared))
    cards = _cards(compared, looks)
    best = _best(compared, found)
    truth = ORACLE in found
    context = {
        "lede": compare_verdict(compared),
        "best": best,
        "hero": _hero(cards[0], best),
        "tiles": _tiles(compared, found, best),
        "lines": [_line(summary, found.get(ORACLE), looks) for summary in found.values()],
        "looks": looks,
        "shapes": SHAPES,
        "truth": truth,
        "many": len(rows) > len(found),
        "rows": [_row(row, looks) for row in rows],
        "weights": weights_chart(rows, looks) if len(rows) > 1 else "",
        "cards": cards,
        "images": sum(len(group.ids) for group in compared),
        "advices": advices(rows),
        "failures": failures(compared),
        "claims": compare_claims(compared),
    }
    return render("compare.html.jinja", title, configuration, context)


def _best(compared: Sequence[Compared], found: Mapping[str, Summary]) -> str:
    """The rule whose reconstructions are shown first: the nearest to the truth if it is known."""
    rules = {name: summary for name, summary in found.items() if name != ORACLE} or dict(found)
    if all(math.isnan(summary.psnr) for summary in rules.values()):
        return central(compared) or next(iter(rules))
    return nearest(rules)


def _tiles(
    compared: Sequence[Compared], found: Mapping[str, Summary], best: str
) -> list[tuple[str, str, str]]:
    """Label, value, detail."""
    summary = found[best]
    middle = number(median(row.weight for row in summary.rows))
    tiles = [("Weight" if len(summary.rows) == 1 else "Median weight", middle, f"chosen by {best}")]
    if ORACLE in found:
        lost = _lost(summary, found[ORACLE])
        detail = "level with the oracle" if lost < LEVEL else f"{decibels(lost)} below the oracle"
        tiles.append(("PSNR", decibels(summary.psnr), detail))
    elif len(found) > 1:
        tiles.append(("Agreement", *agreement(compared)))
    known = summary.certified
    detail = "grey values (rms), at worst" if known else "no distance of use is proved"
    tiles.append(("Proved accuracy", number(summary.certificate) if known else "none", detail))
    cost = summary.cost
    work = f"{count(cost.gradient_evaluations)} gradients, {count(cost.hvps)} products"
    return [*tiles, ("Cost", duration(cost.seconds), work)]


def _lost(summary: Summary, oracle: Summary) -> float:
    """How much PSNR the rule lacks on the images that both have, in the mean [dB]."""
    best = {row.image: row.psnr for row in oracle.rows}
    lost = [best[r.image] - r.psnr for r in summary.rows if r.image in best]
    return sum(lost) / len(lost) if lost else math.nan


def _line(summary: Summary, oracle: Summary | None, looks: Mapping[str, Look]) -> dict[str, object]:
    low, high = summary.weights
    cost, one = summary.cost, len(summary.rows) == 1
    lost = math.nan if oracle is None else _lost(summary, oracle)
    return {
        "name": summary.rule,
        "look": looks[summary.rule],
        "weight": number(low) if low == high else f"{number(low, 2)} … {number(high, 2)}",
        "psnr": level(summary.psnr),
        "loss": "" if summary.rule == ORACLE or math.isnan(lost) else _difference(-lost),
        "ssim": similarity(summary.ssim),
        "value": number(summary.rows[0].value) if one else "",
        "ended": ended(summary),
        "gradients": count(cost.gradient_evaluations),
        "products": count(cost.hvps),
        "seconds": level(cost.seconds),
        "proved": useful(summary),
        "special": summary.rule in (ORACLE, LEARNED),
    }


def _difference(value: float) -> str:
    return difference(0.0 if abs(value) < LEVEL else value)


def _row(row: Chosen, looks: Mapping[str, Look]) -> dict[str, object]:
    """One rule and one image, for the long table."""
    return {
        "image": row.image,
        "name": row.rule,
        "look": looks[row.rule],
        "weight": number(row.weight),
        "psnr": level(row.psnr),
        "ssim": similarity(row.ssim),
        "value": number(row.value),
        "ended": row.outcome.value,
        "proved": useful(row),
    }


def _cards(compared: Sequence[Compared], looks: Mapping[str, Look]) -> list[_Card]:
    places = [(group, k) for group in compared for k in range(len(group.ids))][:SHOWN]
    pictures = sum(len(group.comparison.choices) + 2 for group, _ in places)
    channels = max(group.comparison.before.shape[1] for group, _ in places)
    side = min(_LARGEST, math.isqrt(int(_BYTES * 3 / 4 / (pictures * min(channels, 3)))))
    return [_card(group, k, side, looks, str(n)) for n, (group, k) in enumerate(places)]


def _card(group: Compared, k: int, side: int, looks: Mapping[str, Look], place: str) -> _Card:
    comparison = group.comparison
    choices = {n: comparison.choices[n] for n in looks if n in comparison.choices}
    rows = {r.rule: r for r in chosen([group]) if r.image == group.ids[k]}
    size = (comparison.before.shape[2], comparison.before.shape[3])
    part = (min(side, size[0]), min(side, size[1]))
    whole = part == size
    data = _seen(comparison.y, comparison.before)[k]
    truth = None if comparison.target is None else comparison.target[k]
    shows = [(data, "Data", ""), *((c.x[k], n, _caption(rows[n])) for n, c in choices.items())]
    shows += [] if truth is None else [(truth, "Truth", "")]
    window = window_of(next(iter(choices.values())).x[k] if truth is None else truth)
    tiles = [shown_tile(*show, group.ids[k], side, window) for show in shows]
    curves = [n for n, c in choices.items() if n != ORACLE and drawable(c, k, n)]
    quality = ORACLE in choices and drawable(choices[ORACLE], k, ORACLE)
    return _Card(
        id=group.ids[k],
        note="" if whole else f"middle {part[0]} × {part[1]} of {size[0]} × {size[1]} pixels",
        size=part,
        tiles=tuple(tiles),
        quality=quality_chart(group, k, looks, place) if quality else "",
        curves=tuple(
            criterion_chart(group, k, name, looks[name], f"{place}-{n}", wide=len(curves) == 1)
            for n, name in enumerate(curves)
        ),
    )


def _hero(card: _Card, best: str) -> tuple[Tile, Tile] | None:
    """The data and the best rule's reconstruction of the first image."""
    after = next((tile for tile in card.tiles if tile.title == best), None)
    return None if after is None else (card.tiles[0], after)


def _seen(y: Tensor, before: Tensor) -> Tensor:
    """The data where they are pictures of the size of the image, else what is made of them."""
    return y if y.shape == before.shape else before


def _caption(row: Chosen) -> str:
    quality = "" if math.isnan(row.psnr) else f" · {decibels(row.psnr)}"
    return f"weight {number(row.weight)}{quality}"
