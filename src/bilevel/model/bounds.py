"""Constants that error bounds rest on, each with its provenance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Bounds", "Magnitude", "Provenance", "Reach", "Smoothness", "Variation"]

USELESS = {torch.float32: 2.0**-33, torch.float64: 2.0**-50}
"""mu/L below which a strong convexity is of no use for points of that type."""


class Provenance(Enum):
    """Where a number comes from. Only a proved number may support a certificate."""

    PROVED = "proved"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"

    def worst(self, other: Provenance) -> Provenance:
        """The weaker of the two."""
        order = list(Provenance)
        return order[max(order.index(self), order.index(other))]


@dataclass(frozen=True)
class Bounds:
    """``mu`` I <= ∇²J(x) <= ``lipschitz`` I for every x; float64 tensors () or (b,).

    ``mu`` is negative for weakly convex terms. Bounds of a sum add up.
    """

    mu: Tensor
    lipschitz: Tensor
    mu_from: Provenance = Provenance.PROVED
    lipschitz_from: Provenance = Provenance.PROVED

    @staticmethod
    def of(mu: float | Tensor, lipschitz: float | Tensor) -> Bounds:
        """Proved bounds from two numbers."""
        return Bounds(_scalar(mu), _scalar(lipschitz))

    @staticmethod
    def unknown() -> Bounds:
        """Nothing is known: mu = -inf, lipschitz = inf."""
        inf = torch.tensor(torch.inf, dtype=torch.float64)
        return Bounds(-inf, inf, Provenance.UNKNOWN, Provenance.UNKNOWN)

    def __add__(self, other: Bounds) -> Bounds:
        """Bounds of the sum of two energies."""
        return Bounds(
            self.mu + other.mu,
            self.lipschitz + other.lipschitz,
            self.mu_from.worst(other.mu_from),
            self.lipschitz_from.worst(other.lipschitz_from),
        )

    def for_rows(self, y: Tensor) -> Bounds:
        """The same with one value for each row of ``y``, (b,), on its device."""
        batch, device = y.shape[0], y.device
        mu, lipschitz = self.mu.to(device).expand(batch), self.lipschitz.to(device).expand(batch)
        return Bounds(mu, lipschitz, self.mu_from, self.lipschitz_from).usable(y.dtype)

    def usable(self, dtype: torch.dtype) -> Bounds:
        """The same with mu = 0 where it is positive but useless for points of that type.

        Rounding alone leaves a distance of 4 eps (L/mu) ‖x‖ unproved: where that exceeds ‖x‖, mu
        proves nothing. Float32 has 2^12 times more: its points are looked at in float64, and L may
        lie far above the curvature that is met.
        """
        least = USELESS.get(dtype, 0.0) * self.lipschitz
        useless = (self.mu > 0) & (self.mu < least) & self.lipschitz.isfinite()
        return replace(self, mu=torch.where(useless, 0.0, self.mu))

    def rows(self, index: Tensor) -> Bounds:
        """The bounds of some rows."""
        return Bounds(self.mu[index], self.lipschitz[index], self.mu_from, self.lipschitz_from)

    @cached_property
    def smooth(self) -> bool:
        """Whether every row has a Lipschitz constant."""
        return bool(torch.isfinite(self.lipschitz).all())

    def proved_mu(self) -> Tensor:
        """``mu`` where it is proved and positive, otherwise 0."""
        proved = self.mu_from is Provenance.PROVED
        return self.mu.clamp_min(0.0) if proved else torch.zeros_like(self.mu)


def _scalar(value: float | Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).detach()


@dataclass(frozen=True)
class Magnitude:
    """The terms whose sum is ∇J(x) are at most ``slope`` ‖x‖ + ``offset``; (b,) each, float64.

    The rounding error of the sum is relative to them, not to the sum.
    """

    slope: Tensor
    offset: Tensor

    def __add__(self, other: Magnitude) -> Magnitude:
        """Of the sum of two energies."""
        return Magnitude(self.slope + other.slope, self.offset + other.offset)

    def for_rows(self, y: Tensor) -> Magnitude:
        """The same with one value for each row of ``y``, (b,), on its device."""
        slope, offset = (part.to(y.device).expand(len(y)) for part in (self.slope, self.offset))
        return Magnitude(slope, offset)


@dataclass(frozen=True)
class Smoothness:
    """How smooth J is over the ball ‖x' - x‖ <= radius; (b,) each, float64, inf: not proved.

    At most ``kinks`` features of J may change piece there, that is, cross a point where the second
    derivative jumps, and ‖∇²J(x') - ∇²J(x)‖ <= ``lipschitz`` ‖x' - x‖ for every x' in the ball. A
    piecewise quadratic J without kinks in the ball has ``lipschitz`` 0.
    """

    kinks: Tensor
    lipschitz: Tensor

    @staticmethod
    def unknown(x: Tensor) -> Smoothness:
        """Nothing is proved about the rows of ``x``."""
        inf = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        return Smoothness(inf, inf)

    @staticmethod
    def quadratic(x: Tensor) -> Smoothness:
        """A constant Hessian, for the rows of ``x``."""
        nothing = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return Smoothness(nothing, nothing)

    @staticmethod
    def of(crossing: Tensor, lipschitz: Tensor | float) -> Smoothness:
        """From which features (b, ...) may cross a kink, and the constant between kinks."""
        kinks = crossing.flatten(1).sum(1).double()
        return Smoothness(kinks, torch.where(kinks == 0, lipschitz, torch.inf).double())

    def __add__(self, other: Smoothness) -> Smoothness:
        """Of the sum of two energies."""
        return Smoothness(self.kinks + other.kinks, self.lipschitz + other.lipschitz)


@dataclass(frozen=True)
class Variation:
    """How far second derivatives can change over the ball ‖x' - x‖ <= radius, for one q; (b,) each.

    With H = ∇²_xx J and B = ∇_θ∇_x J, for every x' in the ball

        ‖(H(x') - H(x)) q‖ <= hessian,   ‖(B(x') - B(x))ᵀ q‖ <= cross,   ‖B(x')‖ <= cross_norm.

    This is sharper than Lipschitz constants times ‖q‖ times the radius, since it uses q and the
    curvature at x, and it also covers piecewise smooth energies. Infinite means: not proved.
    """

    hessian: Tensor
    cross: Tensor
    cross_norm: Tensor

    @staticmethod
    def unknown(x: Tensor) -> Variation:
        """Nothing is proved about the rows of ``x``."""
        inf = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        return Variation(inf, inf, inf)

    def without_parameters(self) -> Variation:
        """The same where nothing is known of B: some parameter was not accounted for."""
        inf = torch.full_like(self.hessian, torch.inf)
        return Variation(self.hessian, inf, inf)

    @staticmethod
    def zero(x: Tensor) -> Variation:
        """A quadratic energy without parameters, for the rows of ``x``."""
        nothing = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return Variation(nothing, nothing, nothing)

    def __add__(self, other: Variation) -> Variation:
        """Bounds of the sum of two energies (the triangle inequality; parameters may be shared)."""
        return Variation(
            self.hessian + other.hessian,
            self.cross + other.cross,
            self.cross_norm + other.cross_norm,
        )


@dataclass(frozen=True)
class Reach:
    """How far a slope of J may lead in the channels of the state beyond the image; (b,), float64.

    With a slope s that is known within δ, and for every image within d of that of x, some best
    choice ω' of the further channels ω has

        ⟨s, ω - ω'⟩ <= (steepness + sensitivity δ) (offset + growth d).

    Infinite means: not proved.
    """

    steepness: Tensor
    sensitivity: Tensor
    offset: Tensor
    growth: Tensor

    @staticmethod
    def unknown(x: Tensor) -> Reach:
        """Nothing is proved about the rows of ``x``."""
        inf = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        return Reach(inf, inf, inf, inf)

    @staticmethod
    def nowhere(x: Tensor) -> Reach:
        """No further channels, for the rows of ``x``."""
        nothing = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return Reach(nothing, nothing, nothing, nothing)

    def __add__(self, other: Reach) -> Reach:
        """Of two energies with further channels of their own."""
        return Reach(
            torch.maximum(self.steepness, other.steepness),
            torch.maximum(self.sensitivity, other.sensitivity),
            self.offset + other.offset,
            self.growth + other.growth,
        )
