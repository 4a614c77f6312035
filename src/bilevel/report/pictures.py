"""Images, error maps, filters and weight maps as PNG inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.data import centre_crop
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.model.fidelities import SampledL2
from bilevel.model.regularisers import ExactTotalVariation, FieldsOfExperts, TotalVariation
from bilevel.report.words import count, number

__all__ = [
    "ColourBar",
    "Filter",
    "WeightMap",
    "coloured",
    "error",
    "error_bar",
    "filters",
    "mask",
    "modulus",
    "picture",
    "png",
    "shown",
    "strip",
    "weight_map",
]

_ERRORS, _WEIGHTS = "magma", "viridis"
_KNOT = 16


@dataclass(frozen=True)
class ColourBar:
    """A strip of colours from ``low`` to ``high``."""

    uri: str
    low: float
    high: float


@dataclass(frozen=True)
class Filter:
    """One filter of a fields of experts."""

    uri: str
    weight: float


@dataclass(frozen=True)
class WeightMap:
    """A map of weights, colours logarithmic between the ends of its bar."""

    uri: str
    bar: ColourBar
    what: str


def picture(x: Tensor, window: tuple[float, float] = (0.0, 1.0)) -> str:
    """Data URI of one image (c, h, w), clipped to the grey values of black and white.

    One channel is grey, three are colour, any other number is shown as its root sum of squares.

    Raises:
        InputError: not one image.

    Example:
        >>> picture(torch.zeros(1, 4, 4))[:22]
        'data:image/png;base64,'
    """
    if x.ndim != 3 or 0 in x.shape:
        raise InputError("a picture must have shape (c, h, w)", given=tuple(x.shape))
    planes = modulus(x)
    planes = (planes.double() - window[0]) / (window[1] - window[0])
    return png(planes.expand(3, -1, -1).movedim(0, 2) if len(planes) == 3 else planes[0])


def modulus(x: Tensor) -> Tensor:
    """What is shown of (c, h, w): one channel or three as they are, else their root sum of squares.

    Example:
        >>> modulus(torch.tensor([3.0, 4.0]).view(2, 1, 1))
        tensor([[[5.]]])
    """
    return x if x.shape[0] in (1, 3) else x.square().sum(0, keepdim=True).sqrt()


def mask(fidelity: SampledL2) -> tuple[str, str]:
    """Data URI of a sampling mask, white for 1, and how much of the data it takes, in words.

    Lines are drawn as long as there are lines.
    """
    weights = fidelity.operator.arranged(fidelity.mask.detach().double())
    h, w = weights.shape
    taken, whole = float(weights.sum()), weights.numel()
    kind = "points" if min(h, w) > 1 else "lines"
    words = f"{number(taken)} of {count(whole)} {kind} ({100 * taken / whole:.3g} %)"
    shape = h if h > 1 else w, w if w > 1 else h
    return png(weights.expand(shape)), words


def error(x: Tensor, target: Tensor, scale: float) -> str:
    """Data URI of |x - target| in false colours from 0 to ``scale``, channels averaged."""
    size = (x - target).abs().mean(0) / check_positive(scale, "the scale of errors")
    return png(coloured(size, _ERRORS))


def error_bar(scale: float) -> ColourBar:
    """The colours of :func:`error`."""
    return ColourBar(strip(_ERRORS), 0.0, scale)


def shown(x: Tensor, side: int) -> Tensor:
    """The part of images (k, c, h, w) that is shown: its middle, at most ``side`` pixels a side."""
    return centre_crop(x, (min(side, x.shape[2]), min(side, x.shape[3])))


def filters(experts: FieldsOfExperts) -> tuple[Filter, ...]:
    """Every filter with its weight, largest weight first; each on a grey scale of its own."""
    bank = experts.filters.detach().double()
    weights = experts.weight.detach().double().flatten()
    order = torch.argsort(weights, descending=True)
    return tuple(Filter(_kernel(bank[j]), float(weights[j])) for j in order)


def weight_map(tv: TotalVariation | ExactTotalVariation) -> WeightMap | None:
    """The map of weights of a total variation; None if it has a single weight.

    One on a grid is drawn at 16 pixels a knot.
    """
    weight = tv.weight.detach().double()
    if weight.ndim != 2:
        return None
    what = "one weight a pixel"
    if isinstance(tv, TotalVariation) and tv.grid is not None:
        rows, columns = (_KNOT * n for n in tv.grid.knots)
        weight = tv.weights((1, rows, columns)).detach().double()
        what = f"weights between {tv.grid.knots[0]} × {tv.grid.knots[1]} knots"
    low, high = float(weight.min()), float(weight.max())
    log = weight.log()
    span = (log.max() - log.min()).clamp_min(1e-12)
    colours = coloured((log - log.min()) / span, _WEIGHTS)
    return WeightMap(png(colours), ColourBar(strip(_WEIGHTS), low, high), what)


def _kernel(kernel: Tensor) -> str:
    """Zero is mid grey; channels other than three stand side by side."""
    tone = 0.5 + 0.5 * kernel / kernel.abs().max().clamp_min(1e-30)
    return picture(tone if len(tone) == 3 else torch.cat(tuple(tone), dim=1)[None])


def coloured(values: Tensor, name: str) -> Tensor:
    """(h, w) in [0, 1] -> (h, w, 3)."""
    from matplotlib import colormaps

    table = torch.tensor(colormaps[name](range(256)), dtype=torch.float64)[:, :3]
    return table[(values.clamp(0, 1) * 255).round().long().cpu()]


def strip(name: str) -> str:
    """Data URI of all colours of that name, from the least to the greatest."""
    return png(coloured(torch.linspace(0, 1, 128)[None], name))


def png(pixels: Tensor) -> str:
    """(h, w) or (h, w, 3) in [0, 1] -> data URI."""
    from PIL import Image

    levels = (pixels.detach().double().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels.numpy()).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
