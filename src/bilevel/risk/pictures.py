"""What pictures tell of their noise: its level, whether it is white and grows with the signal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from bilevel import data
from bilevel.ground.checks import check_images
from bilevel.ground.errors import InputError

__all__ = ["Growth", "PictureNoise", "picture_noise"]

SIDE = 8
"""Of the squares that are looked at for flat places [pixel]."""
FLATTEST, BRIGHTNESSES = 0.2, 10
"""Share of the squares that count as flat, compared with fine detail of equal brightness."""
FEWEST_SQUARES = 40
WHITE = 0.15
"""Correlation of neighbours that counts as none: pictures with white noise reach 0.1."""
BINS, FEWEST_OF_A_BIN = 16, 600
CLIPPED = 3.0
INSIDE = 0.97334
"""Variance of a normal law cut off at 3 standard deviations."""
CERTAIN, TIMES = 6.0, 1.5
"""Standard errors of a slope, and what variance must grow by: less is not said to be growth."""
ROUNDS = 8
KERNELS = (1.0, -2.0, 1.0), (1.0, -1.0)
"""Differences that noise is seen in, the finer band first."""
OVERLAP = 3.8
"""Of the second differences of neighbours: the sum of the squares of their correlations."""
AGREEING = 0.12
"""Part by which the gains of both may differ; texture makes the coarser one the larger."""
ROUNDING = 1e-9
"""Of the largest value: what varies by no more is constant."""


@dataclass(frozen=True)
class Growth:
    """The variance gain (mean - dark), of one picture.

    Of a camera ``dark`` is offset - read_noise²/gain, both in the units of the picture.
    """

    gain: float
    gain_error: float
    dark: float

    def read_noise(self, offset: float) -> float:
        """The read noise of a camera with that offset; nan where there is none such."""
        square = self.gain * (offset - self.dark)
        return math.sqrt(square) if square >= 0 else math.nan


@dataclass(frozen=True)
class PictureNoise:
    """What one picture shows; None: it is too small to tell.

    Args:
        level: σ of white noise, as :func:`bilevel.data.noise_level` finds it [grey value].
        flat: standard deviation in the flattest places [grey value].
        correlation: of neighbouring pixels there [1]; 0 for white noise.
        growth: of the variance with the mean, where the data show it.
    """

    level: float
    flat: float | None
    correlation: float | None
    growth: Growth | None

    @property
    def white(self) -> bool | None:
        """Whether neighbours are independent."""
        return None if self.correlation is None else abs(self.correlation) <= WHITE


def picture_noise(y: Tensor) -> PictureNoise:
    """The noise of one picture (1, c, h, w).

    Correlations are those of what is left of the flattest 8x8 squares without the plane through
    them: fine texture everywhere looks like correlated noise. Variances are those of second
    differences across and down, by classes of brightness, outliers (edges) left out; the line
    through them is fitted by iterated weights and is only told of where it rises beyond doubt, and
    where first differences show the same. Fine texture of bright places still makes it too steep.

    Raises:
        InputError: no such picture, or packages of ``pip install 'bilevel[noise]'`` missing.

    Example:
        >>> import torch
        >>> from bilevel.data import PoissonGaussianNoise
        >>> ramp = torch.linspace(20.0, 400.0, 128).expand(1, 1, 128, 128)
        >>> noise = PoissonGaussianNoise(gain=2.0, read_noise=3.0)
        >>> found = picture_noise(noise.sample(ramp, torch.Generator().manual_seed(0)))
        >>> found.white, 1.8 < found.growth.gain < 2.2
        (True, True)
    """
    check_images(y, "the picture")
    if len(y) != 1:
        raise InputError("one picture at a time", given=tuple(y.shape))
    y = y.detach().double().cpu()
    level = float(data.noise_level(y))
    flat = _flattest(y)
    if flat is None:
        return PictureNoise(level, None, None, None)
    deviation, correlation = flat
    found = PictureNoise(level, deviation, correlation, None)
    return PictureNoise(level, deviation, correlation, _growth(y) if found.white else None)


def _flattest(y: Tensor) -> tuple[float, float] | None:
    """Standard deviation and correlation of neighbours in flat squares; None with too few."""
    h, w = (length // SIDE * SIDE for length in y.shape[2:])
    squares = y[0, :, :h, :w].unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE)
    squares = squares.reshape(-1, SIDE * SIDE)
    mean = squares.mean(1)
    left = torch.eye(SIDE * SIDE, dtype=y.dtype) - _plane(y.dtype)
    r = squares @ left
    variance = r.square().sum(1) / float(left.trace())
    used = variance > (ROUNDING * float(y.abs().max())) ** 2  # nothing varies where it is clipped
    if int(used.sum()) < FEWEST_SQUARES:
        return None
    r, mean, variance = r[used], mean[used], variance[used]
    square = r.view(-1, SIDE, SIDE)
    a, b, c, d = (square[:, i::2, j::2].flatten(1) for i in (0, 1) for j in (0, 1))
    detail, busy = (a - b - c + d) / 2, torch.zeros_like(variance)
    for part in mean.argsort().tensor_split(BRIGHTNESSES):
        busy[part] = variance[part] / _variance(detail[part].flatten())
    chosen = busy.argsort()[: max(FEWEST_SQUARES // 2, round(FLATTEST * len(busy)))]
    product, white = _neighbours(r[chosen]), float(_neighbours_of(left))
    ratio = product / variance[chosen] - white
    return float(variance[chosen].median().sqrt()), float(ratio.mean())


def _plane(dtype: torch.dtype) -> Tensor:
    """The projection of a square onto planes."""
    t = torch.linspace(-1.0, 1.0, SIDE, dtype=dtype)
    rows, columns = t[:, None].expand(SIDE, SIDE), t.expand(SIDE, SIDE)
    basis = torch.stack([torch.ones_like(rows), rows, columns]).reshape(3, -1)
    basis = basis / basis.square().sum(1, keepdim=True).sqrt()
    return basis.T @ basis


def _neighbours(r: Tensor) -> Tensor:
    """The mean product of neighbours in every square (n, side²)."""
    square = r.view(-1, SIDE, SIDE)
    across = (square[:, :, :-1] * square[:, :, 1:]).mean((1, 2))
    down = (square[:, :-1] * square[:, 1:]).mean((1, 2))
    return (across + down) / 2


def _neighbours_of(covariance: Tensor) -> Tensor:
    """The same of squares with that covariance, on average."""
    c = covariance.view(SIDE, SIDE, SIDE, SIDE)
    across = c[:, :-1, :, 1:].diagonal(0, 0, 2).diagonal(0, 0, 1).mean()
    down = c[:-1, :, 1:].diagonal(0, 0, 2).diagonal(0, 0, 1).mean()
    return (across + down) / 2


def _growth(y: Tensor) -> Growth | None:
    """The line through variances and means, where it rises beyond doubt.

    Texture that grows with brightness looks the same, but not to two differences of unlike bands.
    """
    fine, coarse = (_through(y, kernel) for kernel in KERNELS)
    if fine is None or coarse is None:
        return None
    apart = abs(fine.gain - coarse.gain)
    if apart > max(AGREEING * fine.gain, 1.5 * math.hypot(fine.gain_error, coarse.gain_error)):
        return None
    return replace(fine, gain_error=max(fine.gain_error, apart))


def _through(y: Tensor, taps: Sequence[float]) -> Growth | None:
    """The same by the differences of one kernel, the product of taps across and down."""
    line = torch.tensor(taps, dtype=y.dtype)
    kernel = torch.outer(line, line)[None, None]
    channels = y[0, :, None]
    detail = conv2d(channels, kernel / kernel.square().sum().sqrt())
    mean = avg_pool2d(channels, len(line), 1)
    mean = avg_pool2d(mean, 5, 1, 2, count_include_pad=False).flatten()
    detail = detail.flatten()
    count = min(BINS, len(mean) // FEWEST_OF_A_BIN)
    if count < 4:
        return None
    parts = mean.argsort().tensor_split(count)
    t = torch.stack([mean[part].mean() for part in parts])
    v = torch.stack([_variance(detail[part]) for part in parts])
    if not bool((v > 0).all()):
        return None
    error = v * math.sqrt(2.2 * OVERLAP / len(parts[0]))
    slope, constant, deviation = _line(t, v, error)
    low, high = (constant + slope * float(end) for end in (t.min(), t.max()))
    if not (slope > CERTAIN * deviation and high > TIMES * max(low, 0.0)):
        return None
    return Growth(slope, deviation, -constant / slope)


def _variance(c: Tensor) -> Tensor:
    """Of normal values with outliers: those beyond 3 standard deviations are left out."""
    variance = (c.abs().median() / 0.6745).square()
    variance = torch.where(variance > 0, variance, c.square().mean())
    for _ in range(ROUNDS):
        kept = c[c.square() <= CLIPPED**2 * variance]
        variance = kept.square().mean() / INSIDE
    return variance


def _line(t: Tensor, v: Tensor, error: Tensor) -> tuple[float, float, float]:
    """Slope, constant and standard error of the slope of v over t: Huber's weights, iterated."""
    weight = 1 / error.square()
    slope = centre = constant = torch.zeros(())
    spread, total = torch.ones(()), torch.ones(())
    factor = torch.ones_like(v)
    for _ in range(ROUNDS):
        k = weight * factor
        centre = (k * t).sum() / k.sum()
        total = (k * (t - centre).square()).sum()
        slope = (k * (t - centre) * v).sum() / total
        constant = (k * v).sum() / k.sum() - slope * centre
        off = (v - constant - slope * t).abs() / error
        spread = (off.median() / 0.6745).clamp_min(1.0)
        factor = (1.5 * spread / off.clamp_min(1e-300)).clamp_max(1.0)
        fitted = (constant + slope * t).clamp_min(0.1 * float(v.min()))
        weight = (v / (error * fitted)).square()  # errors of what is fitted, not of what was met
    return float(slope), float(constant), float(spread / total.sqrt())
