"""Orthogonal scaling filters with as many vanishing moments as their length allows."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal, get_args

import numpy as np

from bilevel.ground.checks import check_choice

__all__ = ["Wavelet", "scaling_filter"]

Wavelet = Literal["haar", "daubechies-2", "daubechies-3", "daubechies-4", "symlet-4"]


@cache
def scaling_filter(wavelet: Wavelet) -> tuple[float, ...]:
    """h with Σ_k h_k h_{k+2m} = 1 for m = 0, else 0, and Σ_k h_k = √2; 2 N taps for N moments.

    ((1 + z)/2)^N times a polynomial q with |q|² = P(y) = Σ_{k<N} C(N-1+k, k) y^k, y = (2 - z -
    1/z)/4: of each pair of roots z, 1/z that a root of P belongs to, q takes one. Daubechies'
    filters take those within the unit circle; the symlet takes its complex pair outside of it,
    which makes it nearly symmetric.

    Source: Daubechies 1992, "Ten lectures on wavelets", Sections 6.1 and 8.1.1.

    Example:
        >>> [round(h, 4) for h in scaling_filter("daubechies-2")]
        [0.483, 0.8365, 0.2241, -0.1294]
    """
    check_choice(wavelet, get_args(Wavelet), "wavelet")
    name, _, count = wavelet.partition("-")
    moments = int(count or 1)
    coefficients = [math.comb(moments - 1 + k, k) for k in reversed(range(moments))]
    taps = np.poly(np.full(moments, -1.0))
    for y in np.roots(coefficients):
        pair = np.roots([1.0, 4 * y - 2, 1.0])
        outside = name == "symlet" and abs(y.imag) > 0
        taps = np.convolve(taps, [1.0, -max(pair, key=abs) if outside else -min(pair, key=abs)])
    real = taps.real
    return tuple(float(h) for h in real * (math.sqrt(2) / real.sum()))
