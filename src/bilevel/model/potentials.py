"""Potentials ψ of one variable, scaled as φ_ν(t) = ν ψ(t/ν), with the constants that bounds need.

All are even with ψ(0) = 0 and ψ''(0) = 1, so that φ_ν'' <= 1/ν. The constants are suprema over
the real line; the tests check each against a dense grid.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.checks import check_choice
from bilevel.ground.errors import InputError

__all__ = [
    "POTENTIALS",
    "Bound",
    "Charbonnier",
    "Constants",
    "EvenFunction",
    "Huber",
    "LogCosh",
    "Potential",
    "Power",
    "StudentT",
    "potential_of",
]


Bound = float | Tensor


@dataclass(frozen=True)
class Constants:
    """Of an even function: numbers, or (m, 1, 1), one for each channel of features (b, m, h, w).

    ``curvature_min`` <= ψ'' <= ``curvature_max``; ``lipschitz`` bounds ψ''' between kinks,
    ``radial_lipschitz`` that of the Hessian of ψ(|p|), ``scale_lipschitz`` |ψ''| and the derivative
    of s ψ''(s); ``kink`` is the |s| where ψ'' jumps, if that is a single one.
    """

    curvature_min: Bound
    lipschitz: Bound
    radial_lipschitz: Bound
    kink: float = math.inf
    curvature_max: Bound = 1.0
    scale_lipschitz: Bound = 1.0


class EvenFunction(ABC):
    """ψ with ψ', ψ'' and ψ'(s)/s, elementwise, and what bounds them; learned or not."""

    @property
    @abstractmethod
    def constants(self) -> Constants:
        """What bounds them."""

    @property
    def curvature_spread(self) -> Bound:
        """sup ψ'' - inf ψ'' <= this, in any direction of the radial function."""
        return self.constants.curvature_max - self.constants.curvature_min

    @abstractmethod
    def value(self, s: Tensor) -> Tensor:
        """ψ(s)."""

    @abstractmethod
    def ratio(self, s: Tensor) -> Tensor:
        """ψ'(s)/s, smooth at 0."""

    @abstractmethod
    def curvature(self, s: Tensor) -> Tensor:
        """ψ''(s)."""

    def slope(self, s: Tensor) -> Tensor:
        """ψ'(s)."""
        return self.ratio(s) * s

    def majorant(self, s: Tensor) -> Tensor:
        """M with ψ(s + d) <= ψ(s) + ψ'(s) d + M d²/2 for all d; ψ'(s)/s where ψ(√·) is concave."""
        return self.ratio(s)

    def jump(self, s: Tensor, reach: Tensor) -> Tensor:
        """At least what ψ'' can jump by, at all kinks that |s| may cross within ``reach``."""
        crossing = (s - self.constants.kink).abs() <= reach
        return crossing.to(s) * self.curvature_spread

    def scale_jump(self, s: Tensor, reach: Tensor) -> Tensor:
        """The same of s ψ''(s)."""
        return (s + reach) * self.jump(s, reach)

    def value_of_square(self, u: Tensor) -> Tensor:
        """ψ(√u); overridden where no root is needed."""
        return self.value(u.clamp_min(torch.finfo(u.dtype).tiny).sqrt())

    def ratio_of_square(self, u: Tensor) -> Tensor:
        """ψ'(√u)/√u; overridden where no root is needed."""
        return self.ratio(u.clamp_min(torch.finfo(u.dtype).tiny).sqrt())


@dataclass(frozen=True)
class Potential(EvenFunction):
    """Without parameters, scaled so that ψ''(0) = 1 is the largest curvature.

    ``slope_max`` >= |ψ'|; ``curvature_min`` <= ψ'' <= 1; ``lipschitz`` bounds ψ''' between kinks,
    ``radial_lipschitz`` that of the Hessian of ψ(|p|); ``kink`` is the |s| where ψ'' jumps (inf:
    nowhere); ``turning`` bounds |s ψ'''(s)| between kinks (inf: not known).
    """

    slope_max: float
    curvature_min: float
    lipschitz: float
    radial_lipschitz: float
    kink: float = math.inf
    turning: float = math.inf

    @property
    def constants(self) -> Constants:
        """Those."""
        return Constants(self.curvature_min, self.lipschitz, self.radial_lipschitz, self.kink)

    @property
    def curvature_spread(self) -> float:
        """sup ψ'' - inf ψ'' <= this, in any direction of the radial function."""
        return 1.0 - self.curvature_min


@dataclass(frozen=True)
class Huber(Potential):
    """ψ(s) = s²/2 for |s| <= 1, |s| - 1/2 beyond; C^{1,1}, ψ'' jumps at |s| = 1.

    Piecewise quadratic; the radial function is so inside the unit ball only.
    """

    slope_max: float = 1.0
    curvature_min: float = 0.0
    lipschitz: float = 0.0
    radial_lipschitz: float = 2 / math.sqrt(3)
    kink: float = 1.0
    turning: float = 0.0

    def value(self, s: Tensor) -> Tensor:
        """ψ(s)."""
        size = s.abs()
        return torch.where(size <= 1, 0.5 * s * s, size - 0.5)

    def value_of_square(self, u: Tensor) -> Tensor:
        """u/2 for u <= 1, √u - 1/2 beyond."""
        return torch.where(u <= 1, 0.5 * u, u.clamp_min(1.0).sqrt() - 0.5)

    def ratio_of_square(self, u: Tensor) -> Tensor:
        """max(u, 1)^(-1/2)."""
        return u.clamp_min(1.0).rsqrt()

    def ratio(self, s: Tensor) -> Tensor:
        """1/max(|s|, 1)."""
        return s.abs().clamp_min(1.0).reciprocal()

    def curvature(self, s: Tensor) -> Tensor:
        """1 for |s| <= 1, else 0 (an element of the Clarke derivative at the kink)."""
        return (s.abs() <= 1).to(s.dtype)

    def scale_jump(self, s: Tensor, reach: Tensor) -> Tensor:
        """1, as the kink is at 1."""
        return self.jump(s, reach)


@dataclass(frozen=True)
class Charbonnier(Potential):
    """ψ(s) = √(1 + s²) - 1, convex and smooth; |ψ'''| <= 48/(25 √5) at s = 1/2."""

    slope_max: float = 1.0
    curvature_min: float = 0.0
    lipschitz: float = 48 / (25 * math.sqrt(5))
    radial_lipschitz: float = 48 / (25 * math.sqrt(5))
    turning: float = 18 / 25 * math.sqrt(3 / 5)

    def value(self, s: Tensor) -> Tensor:
        """ψ(s), without cancellation near 0."""
        return self.value_of_square(s * s)

    def value_of_square(self, u: Tensor) -> Tensor:
        """√(1 + u) - 1, without cancellation near 0."""
        return u / ((1 + u).sqrt() + 1)

    def ratio(self, s: Tensor) -> Tensor:
        """(1 + s²)^(-1/2)."""
        return self.ratio_of_square(s * s)

    def ratio_of_square(self, u: Tensor) -> Tensor:
        """(1 + u)^(-1/2)."""
        return (1 + u).rsqrt()

    def curvature(self, s: Tensor) -> Tensor:
        """(1 + s²)^(-3/2)."""
        return self.ratio(s) ** 3


@dataclass(frozen=True)
class LogCosh(Potential):
    """ψ(s) = log cosh s, convex and smooth; |ψ'''| <= 4/(3√3)."""

    slope_max: float = 1.0
    curvature_min: float = 0.0
    lipschitz: float = 4 / (3 * math.sqrt(3))
    radial_lipschitz: float = 4 / (3 * math.sqrt(3))
    turning: float = 0.6398

    def value(self, s: Tensor) -> Tensor:
        """ψ(s), without overflow, and without cancellation near 0: log(1 + 2 sinh²(s/2))."""
        size = s.abs()
        near = torch.log1p(2 * torch.sinh(size.clamp_max(1.0) / 2).square())
        return torch.where(size < 1, near, size + torch.log1p(torch.exp(-2 * size)) - math.log(2))

    def ratio(self, s: Tensor) -> Tensor:
        """tanh(s)/s."""
        small = s.abs() < 1e-3
        safe = torch.where(small, torch.ones_like(s), s)
        return torch.where(small, 1 - s * s / 3, torch.tanh(safe) / safe)

    def curvature(self, s: Tensor) -> Tensor:
        """1 - tanh²(s)."""
        return 1 - torch.tanh(s) ** 2


@dataclass(frozen=True)
class StudentT(Potential):
    """ψ(s) = log(1 + s²)/2, not convex: ψ'' >= -1/8; |ψ'''| <= (3 + 2√2)/4."""

    slope_max: float = 0.5
    curvature_min: float = -0.125
    lipschitz: float = (3 + 2 * math.sqrt(2)) / 4
    radial_lipschitz: float = (3 + 2 * math.sqrt(2)) / 4
    turning: float = 0.75808

    def value(self, s: Tensor) -> Tensor:
        """ψ(s)."""
        return self.value_of_square(s * s)

    def value_of_square(self, u: Tensor) -> Tensor:
        """log(1 + u)/2."""
        return 0.5 * torch.log1p(u)

    def ratio(self, s: Tensor) -> Tensor:
        """1/(1 + s²)."""
        return self.ratio_of_square(s * s)

    def ratio_of_square(self, u: Tensor) -> Tensor:
        """1/(1 + u)."""
        return (1 + u).reciprocal()

    def curvature(self, s: Tensor) -> Tensor:
        """(1 - s²)/(1 + s²)²."""
        return (1 - s * s) * self.ratio(s) ** 2


@dataclass(frozen=True)
class Power(Potential):
    """ψ(s) = ((1 + s²)^(p/2) - 1)/p, the smoothed |s|^p for 0 < p <= 2; not convex for p < 1.

    p = 1 is Charbonnier's, p = 2 the square itself, and p -> 0 gives Student's t. With k(s) =
    (2 - p)(1 + s²)^(p/2 - 3)

        ψ''(s) = (1 + s²)^(p/2 - 2) (1 - (1 - p) s²),   ψ'''(s) = -k s (3 - (1 - p) s²).

    For p < 1, ψ'' is least at s² = 3/(1 - p). |ψ'''| is largest at the smaller root u = s² of
    (1 - p)(3 - p) u² - 6 (3 - p) u + 3 = 0, and so is the third derivative of ψ(|p|): in unit
    directions with a part c along p it is k s (c³ (3 - (1 - p) s²) + 3 c (1 - c²)(1 + s²)), most
    at c = 1 where s² <= 1/(3 - p), and 2 (2 - p)/√(4 - p) (1 + s²)^(p/2 - 3/2) beyond, which falls.

    Source: Kunisch and Pock 2013, who take |t|^p with p in {1/2, 1, 2}; constants: here.

    Example:
        >>> round(Power.of(1.0).lipschitz, 6), round(Charbonnier().lipschitz, 6)
        (0.85865, 0.85865)
    """

    exponent: float = 0.5

    @staticmethod
    def of(exponent: float) -> Power:
        """With the constants of that exponent p.

        Raises:
            InputError: an exponent outside of (0, 2].
        """
        p = exponent
        if not 0 < p <= 2:
            raise InputError("the exponent of a power must lie in (0, 2]", given=p)
        gap = max(1 - p, 0.0)
        slope = gap ** (gap / 2) * (2 - p) ** (p / 2 - 1) if p <= 1 else math.inf
        concave = -2 * (gap / (4 - p)) ** (2 - p / 2) if p < 2 else 1.0
        root = math.sqrt(36 * (3 - p) ** 2 - 12 * (1 - p) * (3 - p))
        u = 6 / (6 * (3 - p) + root)
        steep = (2 - p) * math.sqrt(u) * (1 + u) ** (p / 2 - 3) * (3 - (1 - p) * u)
        return Power(slope, concave, steep, steep, turning=_turning(p), exponent=p)

    def value(self, s: Tensor) -> Tensor:
        """ψ(s), without cancellation near 0."""
        return self.value_of_square(s * s)

    def value_of_square(self, u: Tensor) -> Tensor:
        """((1 + u)^(p/2) - 1)/p, without cancellation near 0."""
        return torch.expm1(self.exponent / 2 * torch.log1p(u)) / self.exponent

    def ratio(self, s: Tensor) -> Tensor:
        """(1 + s²)^(p/2 - 1)."""
        return self.ratio_of_square(s * s)

    def ratio_of_square(self, u: Tensor) -> Tensor:
        """(1 + u)^(p/2 - 1)."""
        return (1 + u) ** (self.exponent / 2 - 1)

    def curvature(self, s: Tensor) -> Tensor:
        """(1 + s²)^(p/2 - 1) (p - 1 + (2 - p)/(1 + s²))."""
        u, p = s * s, self.exponent
        return self.ratio_of_square(u) * (p - 1 + (2 - p) / (1 + u))


def _turning(p: float) -> float:
    """The largest |s ψ'''(s)| of a power: (2 - p) u |3 - (1 - p) u| (1 + u)^(p/2 - 3), u = s².

    It is stationary where (1 - p)(1 - p/2) u² - (8 - 7p/2) u + 3 = 0.
    """
    square, linear = (1 - p) * (1 - p / 2), 8 - 3.5 * p
    root = math.sqrt(linear**2 - 12 * square)
    roots = [6 / (linear + root), *([(linear + root) / (2 * square)] if square > 0 else [])]
    sizes = [u * abs(3 - (1 - p) * u) * (1 + u) ** (p / 2 - 3) for u in roots]
    return (2 - p) * max(sizes)


POTENTIALS: dict[str, Potential] = {
    "huber": Huber(),
    "charbonnier": Charbonnier(),
    "log-cosh": LogCosh(),
    "student-t": StudentT(),
    "power": Power.of(0.5),
}
"""The potentials by the names that regularisers and configurations use."""


def potential_of(name: str, exponent: float | None = None) -> Potential:
    """The potential of that name; that of "power" has an ``exponent``, 1/2 if None.

    Raises:
        InputError: an unknown name, an exponent of another potential, or one outside of (0, 2].

    Example:
        >>> potential_of("power", 2.0).curvature_min
        1.0
    """
    check_choice(name, POTENTIALS, "potential")
    if exponent is None:
        return POTENTIALS[name]
    if name != "power":
        advice = 'leave exponent out, or set potential = "power"'
        raise InputError(f"the potential '{name}' has no exponent", given=exponent, advice=advice)
    return Power.of(exponent)
