"""Directions, anisotropies and exponents of an image's gradients, from the image alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from bilevel.ground.checks import check_count, check_images, check_nonnegative
from bilevel.ground.contrast import contrast
from bilevel.ground.errors import InputError
from bilevel.ground.given import typed
from bilevel.model.directions import LARGEST_ANISOTROPY, LARGEST_EXPONENT, LEAST_EXPONENT
from bilevel.model.regularisers import DirectionalTV

__all__ = ["DirectionalMaps", "directional_maps"]

EXPONENTS = 12
"""Tried between the least and the largest."""
SMOOTHING = 0.01
"""Of the contrast, where none is given."""
SMALLEST = 0.5 / 255
"""Of the contrast: gradients below are those of rounding to eight bits."""

Matrix = tuple[Tensor, Tensor, Tensor]
"""A symmetric one at every pixel: xx, xy, yy."""


@dataclass(frozen=True)
class DirectionalMaps:
    """What :func:`directional_maps` finds, (b, h, w) each.

    Attributes:
        angle: of stripes and edges, from the rows' direction towards greater row numbers [degree].
        anisotropy: e₁/e₂ in [1, 50], the ratio of the eigenvalues of Σ [1].
        exponent: p in [0.3, 2] [1].
        size: (e₁ e₂)^(1/4), the length of usual gradients [grey value].
        contrast: of the images [grey value].
    """

    angle: Tensor
    anisotropy: Tensor
    exponent: Tensor
    size: Tensor
    contrast: float

    def regulariser(
        self,
        smoothing: float | None = None,
        *,
        row: int = 0,
        learn: tuple[str, ...] = ("weight",),
    ) -> DirectionalTV:
        """½ Σ_i (g_iᵀ Σ_i⁻¹ g_i)^(p_i/2) of the image ``row``, smoothed, times a number.

        That is :class:`~bilevel.model.regularisers.DirectionalTV` with M = √det Σ Σ⁻¹ and weights
        size^(-p), divided by their geometric mean: ``select`` finds the number. The parameters of
        the arguments are those of the regulariser.

        Gradients shorter than the smoothing ε, 0.01 of the contrast if None, are smoothed away and
        do not make weights: k size², their variance, is taken for k size² + ε².
        """
        smoothing = SMOOTHING * self.contrast if smoothing is None else smoothing
        angle, anisotropy, p, size = (
            part[row] for part in (self.angle, self.anisotropy, self.exponent, self.size)
        )
        size = (size.square() + smoothing**2 / _variance(p)).sqrt()
        scale = float(size.log().mean().exp())
        log = -p * (size / scale).log()
        weight = (log - log.mean()).exp()
        return DirectionalTV(weight, smoothing, p, angle, anisotropy, scale=scale, learn=learn)


@typed
def directional_maps(
    image: Tensor,
    *,
    window: int = 11,
    wide: int = 21,
    exponents: tuple[float, float] = (LEAST_EXPONENT, LARGEST_EXPONENT),
    sigma: float = 0.0,
    passes: int = 30,
) -> DirectionalMaps:
    """Maximum-likelihood maps for directional total variation, from the gradients around a pixel.

    Gradients g (centred differences) around a pixel are taken for draws of the density
    proportional to |Σ|^(-1/2) exp(-½ (gᵀΣ⁻¹g)^(p/2)), a generalised Gaussian. Σ = m V, tr V = 2,
    is the fixed point of V <- 2 Σ_j u_j^(p/2 - 1) g_j g_jᵀ / Σ_j u_j^(p/2) with u_j = g_jᵀV⁻¹g_j,
    and m^(p/2) = p/4 times the mean of u^(p/2) (Pascal, Bombrun, Tourneret, Berthoumieu 2013,
    arXiv 1302.6498); p has the largest likelihood of 12 values, refined by one Newton step. Every
    sum is a box filter, since u_j is taken with the V of its own pixel: at stationary places no
    worse. Channels count as further gradients.

    Of 121 independent gradients p = 0.7, 1 and 1.5 are found as 0.74 ± 0.12, 1.07 ± 0.19 and
    1.58 ± 0.27, of 441 as 0.72 ± 0.06, 1.03 ± 0.09 and 1.54 ± 0.15 (of exact sums 1.54 ± 0.14),
    angles to 2° and 1° where the anisotropy is 10. Hence the two windows.

    Args:
        image: (b, c, h, w), a restored one, or give ``sigma``; restored by total variation of least
            predicted risk, as the discrepancy principle smooths texture away [grey value].
        window: side of the squares that angle, anisotropy and size come from, odd [pixel].
        wide: that for the exponent [pixel].
        exponents: the least and the largest, in [0.3, 2]; from 1 on the regulariser is convex [1].
        sigma: of white noise in the image: σ²/2 I is subtracted from the covariance of the
            gradients [grey value].
        passes: of the fixed point.

    Returns:
        The maps; e₁ is at least that of half a grey value of 255, e₂ at least e₁/50.

    Raises:
        InputError: no images, windows that are even or larger than the image, exponents out of
            range, a negative sigma.

    Example:
        >>> stripes = (0.3 * torch.arange(48.0)).sin().expand(1, 1, 48, 48)
        >>> maps = directional_maps(stripes)
        >>> round(float(maps.angle[0, 24, 24].abs())), round(float(maps.anisotropy[0, 24, 24]))
        (90, 50)
    """
    check_images(image, "image")
    check_nonnegative(sigma, "sigma")
    check_count(passes, "passes")
    if not LEAST_EXPONENT <= exponents[0] <= exponents[1] <= LARGEST_EXPONENT:
        what = f"exponents must grow within [{LEAST_EXPONENT:g}, {LARGEST_EXPONENT:g}]"
        raise InputError(what, given=exponents)
    for name, side in (("window", window), ("wide", wide)):
        _check_window(name, side, image)
    with torch.no_grad():
        return Gradients.of(image).maps((window, wide), exponents, sigma, passes)


@dataclass(frozen=True)
class Gradients:
    """Across (x) and down (y), (b, c, h, w), of images of that contrast."""

    x: Tensor
    y: Tensor
    contrast: float

    @staticmethod
    def of(image: Tensor) -> Gradients:
        """Centred differences, of an image that goes on beyond its border as it ends."""
        wide = pad(image, (1, 1, 1, 1), mode="replicate")
        x = (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2
        y = (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2
        return Gradients(x, y, contrast(image))

    @property
    def least(self) -> float:
        """What is shorter is that of rounding."""
        return SMALLEST * self.contrast

    def maps(
        self,
        windows: tuple[int, int],
        exponents: tuple[float, float],
        sigma: float,
        passes: int,
    ) -> DirectionalMaps:
        """As :func:`directional_maps` says."""
        (window, wide), one = windows, exponents[0] == exponents[1]
        tried = torch.linspace(*exponents, 1 if one else EXPONENTS).to(self.x)
        found = zip(tried, self.shapes(tried, wide, passes), strict=True)
        exponent = _likeliest(tried, torch.stack([self.likelihood(v, p, wide) for p, v in found]))
        shapes = self.shapes(tried, window, passes)
        pairs = zip(tried, shapes, strict=True)
        spread = torch.stack([self.spread(v, p, window) for p, v in pairs]).log()
        xx, xy, yy = (
            _interpolated(tried, torch.cat(entries, 1).transpose(0, 1), exponent)
            for entries in zip(*shapes, strict=True)
        )
        m = _interpolated(tried, spread, exponent).exp()
        return self.described((xx, xy, yy), m, exponent, sigma)

    def length(self, v: Matrix) -> Tensor:
        """u = gᵀV⁻¹g, (b, c, h, w), at least that of rounding."""
        xx, xy, yy = v
        square = yy * self.x.square() - 2 * xy * self.x * self.y + xx * self.y.square()
        return (square / (xx * yy - xy.square())).clamp_min((0.1 * self.least) ** 2)

    def shapes(self, tried: Tensor, window: int, passes: int) -> list[Matrix]:
        """V for each exponent, (b, 1, h, w) each; a third of the passes after the first."""
        one = torch.ones_like(self.x[:, :1])
        v = one, torch.zeros_like(one), one
        found: list[Matrix] = []
        for p in tried:
            for _ in range(-(-passes // 3) if found else passes):
                v = self._moved(v, p, window)
            found.append(v)
        return found

    def _moved(self, v: Matrix, p: Tensor, window: int) -> Matrix:
        weight = self.length(v).pow(p / 2 - 1)
        products = self.x.square(), self.x * self.y, self.y.square()
        xx, xy, yy = (_box(weight * product, window) for product in products)
        return _floored(xx, xy, yy)

    def spread(self, v: Matrix, p: Tensor, window: int) -> Tensor:
        """m, (b, h, w)."""
        return (p / 4 * _box(self.length(v).pow(p / 2), window)[:, 0]).pow(2 / p)

    def likelihood(self, v: Matrix, p: Tensor, window: int) -> Tensor:
        """The mean logarithm of the density, its maximum over m, up to a constant, (b, h, w)."""
        volume = self.spread(v, p, window).log() + 0.5 * _determinant(v)[:, 0].log()
        return p.log() - torch.lgamma(2 / p) - 2 / p * math.log(2.0) - 2 / p - volume

    def described(self, v: Matrix, m: Tensor, p: Tensor, sigma: float) -> DirectionalMaps:
        """Of Σ = m V."""
        c, s = (v[0] - v[2]) / 2, v[1]
        r = torch.hypot(c, s)
        noise = sigma**2 / 2 / _variance(p)
        first, second = (m * (1 + sign * r) - noise for sign in (1, -1))
        ratio = torch.where(first > 0, second / first, 1.0).clamp(1 / LARGEST_ANISOTROPY, 1.0)
        size = first.clamp_min(self.least**2).sqrt() * ratio.pow(0.25)
        angle = torch.rad2deg(torch.atan2(-s, -c) / 2)
        return DirectionalMaps(angle, 1 / ratio, p, size, self.contrast)


def _variance(p: Tensor) -> Tensor:
    """k = 2^(2/p) Γ(4/p)/(2 Γ(2/p)): the covariance of gradients is k Σ."""
    return (2 / p * math.log(2.0) + torch.lgamma(4 / p) - torch.lgamma(2 / p)).exp() / 2


def _determinant(v: Matrix) -> Tensor:
    return v[0] * v[2] - v[1].square()


def _floored(xx: Tensor, xy: Tensor, yy: Tensor) -> Matrix:
    """With trace 2 and eigenvalues that differ by a factor of at most 50; I where nothing is."""
    half = (xx + yy) / 2
    c, s = ((part / half).nan_to_num(0.0, 0.0, 0.0) for part in ((xx - yy) / 2, xy))
    r = torch.hypot(c, s)
    most = (LARGEST_ANISOTROPY - 1) / (LARGEST_ANISOTROPY + 1)
    share = (most / r).clamp_max(1.0)
    return 1 + share * c, share * s, 1 - share * c


def _likeliest(tried: Tensor, likelihood: Tensor) -> Tensor:
    """The vertex of the parabola through the largest value and its neighbours, (b, h, w)."""
    place = likelihood.argmax(0)
    if len(tried) == 1:
        return tried[place]
    inner = place.clamp(1, len(tried) - 2)
    before, here, after = (likelihood.gather(0, (inner + k)[None])[0] for k in (-1, 0, 1))
    move = (before - after) / (2 * (before - 2 * here + after))
    move = torch.where(place == inner, move.nan_to_num(0.0).clamp(-0.5, 0.5), 0.0)
    return tried[place] + move * (tried[1] - tried[0])


def _interpolated(tried: Tensor, values: Tensor, p: Tensor) -> Tensor:
    """``values`` (n, b, h, w) of the exponents ``tried`` at p (b, h, w)."""
    if len(tried) == 1:
        return values[0]
    place = ((p - tried[0]) / (tried[1] - tried[0])).clamp(0, len(tried) - 1)
    low = place.floor().long().clamp_max(len(tried) - 2)
    first, second = (values.gather(0, (low + k)[None])[0] for k in (0, 1))
    return torch.lerp(first, second, place - low)


def _box(field: Tensor, side: int) -> Tensor:
    """Means over squares and channels, fewer pixels at the border: (b, c, h, w) -> (b, 1, h, w)."""
    mean = field.mean(1, keepdim=True)
    half = side // 2
    rows = avg_pool2d(mean, (side, 1), 1, (half, 0), count_include_pad=False)
    return avg_pool2d(rows, (1, side), 1, (0, half), count_include_pad=False)


def _check_window(name: str, side: int, image: Tensor) -> None:
    if side < 3 or side % 2 == 0:
        raise InputError(f"{name} must be an odd number of pixels, at least 3", given=side)
    if side > min(image.shape[2:]):
        what = f"{name} must not exceed the image of {image.shape[2]}x{image.shape[3]} pixels"
        raise InputError(what, given=side, advice="take a smaller window or a larger image")
