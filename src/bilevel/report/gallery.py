"""Which images a page shows, and each one as a card of tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.contrast import window_of
from bilevel.report.comparison import Samples, Score, Scores
from bilevel.report.pictures import ColourBar, error, error_bar, modulus, picture, shown
from bilevel.report.words import decibels, gain, number, similarity

__all__ = ["Card", "Tile", "card", "gallery", "median_card", "shown_side", "shown_tile"]

_BYTES = 4_000_000
"""What all pictures of a page may take; noisy PNG holds about one byte a grey value."""
_LARGEST = 384


@dataclass(frozen=True)
class Tile:
    """One picture with its caption and a text for those who cannot see it."""

    uri: str
    title: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Card:
    """One sample: before, after, truth and both error maps."""

    id: str
    gain: str
    note: str
    size: tuple[int, int]
    tiles: tuple[Tile, ...]
    bar: ColourBar


def gallery(
    samples: Sequence[Samples], scores: Scores, *, side: int, most: int
) -> tuple[Card, ...]:
    """At most ``most`` samples, spread evenly from the largest gain to the smallest."""
    ranked = _ranked(samples, scores)
    picks = torch.linspace(0, len(ranked) - 1, min(most, len(ranked))).round()
    return tuple(card(*ranked[int(i)], side=side) for i in picks)


def median_card(samples: Sequence[Samples], scores: Scores, *, side: int) -> Card:
    """The sample of median gain."""
    ranked = _ranked(samples, scores)
    return card(*ranked[len(ranked) // 2], side=side)


def shown_side(cards: int, channels: int) -> int:
    """The side [pixel] up to which images are shown, so that ``cards`` of them stay small."""
    values = (3 * min(channels, 3) + 2) * 4 / 3
    return min(_LARGEST, math.isqrt(int(_BYTES / (max(cards, 1) * values))))


def card(batch: Samples, row: int, score: Score, *, side: int) -> Card:
    """Sample ``row`` of a batch."""
    size = (batch.target.shape[2], batch.target.shape[3])
    images: list[Tensor] = [batch.before, batch.after, batch.target]
    before, after, target = (shown(x[row : row + 1].detach(), side)[0] for x in images)
    scale, window = _error_scale(before, target, score.peak), window_of(modulus(target))
    part = (target.shape[1], target.shape[2])
    errors = ("Error before", before, score.psnr_before), ("Error after", after, score.psnr_after)
    return Card(
        id=score.id,
        gain=gain(score.gain),
        note=_note(score, part, size),
        size=part,
        tiles=(
            _tile(
                before, "Before", _quality(score.psnr_before, score.ssim_before), score.id, window
            ),
            _tile(after, "After", _quality(score.psnr_after, score.ssim_after), score.id, window),
            _tile(target, "Truth", "", score.id, window),
            *(
                Tile(
                    uri=error(x, target, scale),
                    title=title,
                    caption=f"rms {number(score.peak * 10 ** (-level / 20))}",
                    alt=f"{title} of {score.id}: absolute difference to the truth",
                )
                for title, x, level in errors
            ),
        ),
        bar=error_bar(scale),
    )


def _ranked(samples: Sequence[Samples], scores: Scores) -> list[tuple[Samples, int, Score]]:
    """Every sample as (its batch, its row, its score), the largest gain first."""
    places = [(batch, row) for batch in samples for row in range(len(batch))]
    found = [(*place, score) for place, score in zip(places, scores.rows, strict=True)]
    return sorted(found, key=lambda one: one[2].gain, reverse=True)


def _error_scale(before: Tensor, target: Tensor, peak: float) -> float:
    """All but the largest half per cent of the errors before; the same scale serves after."""
    errors = (before - target).abs().mean(0).flatten().double()
    return max(float(errors.quantile(0.995)), 1e-6 * peak)


def _note(score: Score, part: Sequence[int], size: Sequence[int]) -> str:
    notes: list[str] = []
    if math.isfinite(score.certificate):
        notes.append(f"certified within {number(score.certificate)} grey values (rms)")
    else:
        notes.append("distance to the minimiser not proved")
    if score.unfinished:
        notes.append(score.status)
    if tuple(part) != tuple(size):
        notes.append(f"middle {part[0]} × {part[1]} of {size[0]} × {size[1]} pixels")
    return "; ".join(notes)


def _quality(psnr: float, ssim: float) -> str:
    return decibels(psnr) + ("" if math.isnan(ssim) else f" · SSIM {similarity(ssim)}")


def _tile(x: Tensor, title: str, caption: str, name: str, window: tuple[float, float]) -> Tile:
    return Tile(picture(x, window), title, caption, f"{name}, {title.lower()}")


def shown_tile(
    x: Tensor, title: str, caption: str, name: str, side: int, window: tuple[float, float]
) -> Tile:
    """The middle of an image (c, h, w), at most ``side`` pixels wide and high."""
    return Tile(picture(shown(x[None], side)[0], window), title, caption, f"{name}, {title}")
