"""What speaks against a weight that a rule found: assumptions that its residuals contradict.

Every rule for noise of a level assumes that noise is white, of one size everywhere and, if σ is
known, as strong as σ. At the weight chosen A x - y = (I - P) n + bias with P = ∂(A x)/∂y, so that
a fresh probe b of white noise, of which (I - P) b is left, tells what residuals must look like.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.randomness import generator
from bilevel.model.fidelities import KullbackLeibler
from bilevel.risk.counts import means_of
from bilevel.select.path import Path
from bilevel.select.point import Point
from bilevel.select.rule import Rule

__all__ = ["FEWEST", "FRESH", "Residuals", "contradictions", "moved"]

FEWEST = 256
"""Data that statistics of bands need."""
FEWEST_OF_A_BAND = 64
"""Coefficients, of which a level is known to within a quarter."""
SPREAD = 2.5
"""Of the levels that bands show, highest by lowest: reconstructions of real pictures reach 2.3."""
TAILS = 0.75
"""Of the level that the median shows by that of the mean square; 1 for normal noise."""
ABOVE, BELOW = 1.5, 1.2
"""Times sigma, and sigma divided by it: levels outside contradict sigma; bias only raises them."""
CHANCE = 2.0
"""Times the energy that noise alone would put into x: less is no picture."""
LEFT = 1e-2
"""Rms of (I - P) b, below which nothing is left to be looked at [1]."""
AWAY = math.log(3.0)
"""In log w: if a weight so far away is better for fresh probes, the weight is chance."""
LEVELS = 3
FRESH = 1
"""Seed of the probes of who had none."""


@dataclass(frozen=True)
class Residuals:
    """Residuals r and what white noise of level 1 would leave; all (b, c', h', w') float64.

    ``explained`` is A (x - mean x) and ``fitted`` the same of (∂x/∂y) b.
    """

    r: Tensor
    left: Tensor
    explained: Tensor
    fitted: Tensor

    @staticmethod
    def at(point: Point) -> Residuals:
        """Of one fresh probe, the same for all rows; counts are divided by √(A x + background)."""
        scale = torch.ones((), dtype=torch.float64)
        if isinstance(point.energy.fidelity, KullbackLeibler):
            scale = means_of(point.energy, point.prediction).sqrt()
        random = torch.randn(point.y.shape[1:], generator=generator(0, "evidence"))
        b = point.seen * scale * random.to(point.y).double()
        wide = b.expand(point.y.shape).to(point.y)
        dx, a = point.solve(-point.pushed(wide)), point.energy.fidelity.operator
        return Residuals(
            point.fine_residual.double() / scale,
            (wide - point.seen * a(dx)).double() / scale,
            (a(point.x - _mean(point.x))).double() / scale,
            (a(dx - _mean(dx))).double() / scale,
        )

    @property
    def level(self) -> Tensor:
        """σ that the residuals show, (b,) [unit of the data]: bias can only make it larger."""
        return (_energy(self.r) / _energy(self.left)).sqrt()

    def bands(self) -> tuple[Tensor, Tensor]:
        """σ as every band shows it, by mean squares and by medians, (n, b) each.

        Bands are those of Haar's wavelets, horizontal, vertical and diagonal, from the finest on.
        """
        pairs = list(zip(_haar(self.r), _haar(self.left), strict=True))
        by_square = [(_energy(r) / _energy(b)).sqrt() for r, b in pairs]
        by_median = [_median(r) / _median(b) for r, b in pairs]
        return torch.stack(by_square), torch.stack(by_median)


def contradictions(point: Point, seen: Residuals | None, sigma: Tensor | None) -> list[str]:
    """What the residuals of each row contradict, "" where nothing; ``sigma`` (b,) if known."""
    if seen is None:
        text = f"{point.size} data are too few to tell a weight: it moves with the noise"
        return [text] * len(point.y)
    by_square, by_median = seen.bands()
    spread = by_square.amax(0) / by_square.amin(0)
    tails = (by_median[:3] / by_square[:3]).amin(0)
    chance = _energy(seen.explained) / (seen.level.square() * _energy(seen.fitted))
    left = (_energy(seen.left) / point.size).sqrt()
    found: list[str] = []
    for k in range(len(point.y)):
        level = float(seen.level[k])
        told = math.nan if sigma is None else float(sigma[k])
        if not float(left[k]) > LEFT:
            text = "nearly all noise is kept, so that residuals tell nothing"
            if sigma is not None:
                text += ": sigma may be far too small; where none is given, it is estimated"
        elif not math.isfinite(float(spread[k])):
            text = "nothing is left that could be noise: the data are constant, or free of noise"
        elif not float(spread[k]) <= SPREAD:
            wrong = "A or sigma" if sigma is not None else "A or the level of the noise"
            text = (
                "residuals are not what white noise leaves, coarse and fine bands differ "
                f"{float(spread[k]):.1f} times in level: the noise is not white (correlated, "
                f"growing with the signal, or absent), or {wrong} is wrong"
            )
        elif not float(tails[k]) >= TAILS:
            text = "residuals are not of one size: the noise has outliers, or varies over the image"
        elif not told / BELOW <= level <= told * ABOVE and not math.isnan(told):
            text = f"residuals show noise of level {level:.3g}, not sigma = {told:.3g}"
        elif not float(chance[k]) >= CHANCE:
            text = "the data may hold no more than noise: it would explain what is reconstructed"
        else:
            text = ""
        found.append(text)
    return found


def moved(path: Path, fresh: Rule, weight: Tensor, index: Tensor) -> Tensor:
    """Whether a rule with fresh probes prefers a weight three times as large or small, (b,)."""
    here = fresh.value(path.at(weight, index))
    below, above = (fresh.value(path.at(weight * math.exp(sign * AWAY), index)) for sign in (-1, 1))
    return (below < here) | (above < here)


def _mean(x: Tensor) -> Tensor:
    return rows.expand(x.flatten(1).mean(1), x)


def _energy(v: Tensor) -> Tensor:
    return v.flatten(1).square().sum(1)


def _median(v: Tensor) -> Tensor:
    return v.abs().flatten(1).median(1).values


def _haar(v: Tensor) -> Iterator[Tensor]:
    for _ in range(LEVELS):
        h, w = (length // 2 * 2 for length in v.shape[2:])
        if v.shape[1] * h * w < 4 * FEWEST_OF_A_BAND:
            return
        a, b = v[..., :h:2, :w:2], v[..., :h:2, 1:w:2]
        c, d = v[..., 1:h:2, :w:2], v[..., 1:h:2, 1:w:2]
        yield (a - b + c - d) / 2
        yield (a + b - c - d) / 2
        yield (a - b - c + d) / 2
        v = (a + b + c + d) / 2
