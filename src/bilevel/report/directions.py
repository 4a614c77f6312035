"""Maps of directions and exponents as pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.model.directions import LARGEST_ANISOTROPY
from bilevel.model.regularisers import DirectionalTV
from bilevel.report.pictures import ColourBar, coloured, png, strip

__all__ = ["Field", "direction_fields"]

_KNOT, _COLOURS = 16, "viridis"


@dataclass(frozen=True)
class Field:
    """A picture of a map, what it is of, and how to read it."""

    uri: str
    bar: ColourBar
    what: str
    unit: str
    words: str


def direction_fields(part: DirectionalTV) -> tuple[Field, ...]:
    """Weights, directions and exponents of a directional total variation, those that are maps.

    A grid is drawn at 16 pixels a knot.
    """
    size = _size(part)
    if size is None:
        return ()
    with torch.no_grad():
        at = part.local((1, *size))
        found: list[Field] = []
        if at.log_weight.ndim == 2:
            found.append(_weights(at.log_weight))
        if at.metric.c.ndim == 2:
            found.append(_directions(at.metric.c, at.metric.s))
        if at.exponent.ndim == 2:
            found.append(_exponents(at.exponent))
        return tuple(found)


def _size(part: DirectionalTV) -> tuple[int, int] | None:
    if part.grid is not None:
        rows, columns = part.grid.knots
        return _KNOT * rows, _KNOT * columns
    for parameter in (part.log_weight, part.cosine, part.exponent):
        if parameter.ndim == 2:
            return parameter.shape[0], parameter.shape[1]
    return None


def _directions(c: Tensor, s: Tensor) -> Field:
    """The hue tells the angle, the strength of the colour the anisotropy."""
    turn = torch.atan2(s, c).double() / (2 * math.pi) % 1.0
    strength = 2 * torch.hypot(c, s).double() / math.log(LARGEST_ANISOTROPY)
    hues = torch.linspace(0, 1, 128, dtype=torch.float64)[None]
    bar = ColourBar(png(_hues(hues, torch.ones_like(hues))), 0.0, 180.0)
    words = (
        "the direction in which the image is smoothed most, from the rows' direction towards "
        "greater row numbers. The stronger the colour the larger the anisotropy, white is none."
    )
    return Field(png(_hues(turn, strength.clamp(0, 1))), bar, "directions", "degrees", words)


def _weights(log: Tensor) -> Field:
    uri, low, high = _shades(log)
    words = "one weight a pixel [1], on a logarithmic scale."
    return Field(
        uri, ColourBar(strip(_COLOURS), math.exp(low), math.exp(high)), "weights", "", words
    )


def _exponents(p: Tensor) -> Field:
    uri, low, high = _shades(p)
    words = "the exponent at every pixel [1]. Below 1 edges are few and sharp, at 2 all is smooth."
    return Field(uri, ColourBar(strip(_COLOURS), low, high), "exponents", "", words)


def _shades(values: Tensor) -> tuple[str, float, float]:
    """A picture, and what its darkest and its brightest colour stand for."""
    low, high = float(values.min()), float(values.max())
    share = (values.double() - low) / max(high - low, 1e-12)
    return png(coloured(share, _COLOURS)), low, high


def _hues(turn: Tensor, strength: Tensor) -> Tensor:
    """(h, w), (h, w) -> (h, w, 3)."""
    from matplotlib.colors import hsv_to_rgb

    bright = torch.full_like(turn, 0.9)
    stacked = torch.stack([turn, strength, bright], -1).cpu().numpy()
    return torch.from_numpy(hsv_to_rgb(stacked))
