"""Potentials whose derivative is a sum of Gaussians."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import cast

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_positive, numbers
from bilevel.ground.errors import InputError
from bilevel.ground.fused import fused
from bilevel.model.learned_potentials import (
    REACH,
    LearnedPotential,
    each_or_one,
    per_channel,
    start_of,
)
from bilevel.model.potentials import Constants, EvenFunction
from bilevel.model.sets import Box, Set

__all__ = ["RadialBasis"]

LARGEST = 1e3
FINE = 128
"""Places a width at which curvatures are looked at, to bound them everywhere."""
FAR = 10
"""Widths beyond the last centre after which nothing is left: e^(-50)."""
THIRD, FOURTH = 1.381, 3.0
"""More than the largest third and fourth derivative of exp(-u²/2)."""


class RadialBasis(LearnedPotential):
    """ψ' the odd part of a sum of Gaussians at even places: smooth, of either curvature.

    ψ'(s) = Σ_k c_k [g(s - k d) - g(s + k d)], g(s) = exp(-s²/(2 γ²)), k = 1..n, d = reach/n, so
    that 31 coefficients make 63 Gaussians, of which the middle one has no odd part. ψ is the exact
    integral, 0 at 0. The bounds of ψ'' and of its derivatives are proved from the coefficients:
    largest values on a grid of γ/128 and what they can exceed these by.

    Args:
        coefficients: c (n,), or (m, n), a row for each filter.
        reach: the last centre n d, in units of the smoothing [1].
        width: γ, in the same units; the distance of the centres d if None [1].
        learn: whether the coefficients are learned.

    Raises:
        InputError: coefficients of another shape, a reach or width that is not positive.

    Source: Chen and Pock 2017 (arXiv 1508.02848), Section 3.

    Example:
        >>> basis = RadialBasis(torch.tensor([1.0]), reach=1.0)
        >>> basis.potential.slope(torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)).detach().flatten()
        tensor([0.0000, 0.8647])
    """

    coefficients: nn.Parameter

    def __init__(
        self,
        coefficients: Tensor,
        *,
        reach: float = REACH,
        width: float | None = None,
        learn: bool = True,
    ) -> None:
        super().__init__()
        self.reach = check_positive(reach, "reach")
        given = numbers(coefficients, "coefficients")
        first = each_or_one(given, given.shape[-1:].numel(), "coefficients")
        self.spacing = reach / first.shape[-1]
        self.width = self.spacing if width is None else check_positive(width, "width")
        if float(first.abs().max()) > LARGEST:
            given = float(first.abs().max())
            raise InputError(f"coefficients must lie in [-{LARGEST:g}, {LARGEST:g}]", given=given)
        self.coefficients = nn.Parameter(first, requires_grad=learn)

    @staticmethod
    def like(
        potential: str, filters: int | None = None, *, reach: float = REACH, centres: int = 31
    ) -> RadialBasis:
        """What comes nearest to another potential up to ``reach``; ``filters`` times if given.

        Raises:
            InputError: an unknown potential, a reach that is not positive, no centre.
        """
        if not (0 < reach < math.inf and centres >= 1):
            what = "a radial basis needs a positive reach and at least 1 centre"
            raise InputError(what, given=(reach, centres))
        spacing = reach / centres
        s = torch.linspace(0.0, reach, 8 * centres + 1, dtype=torch.float64)
        basis = _basis(s, centres, spacing, spacing, 0)
        ridge = 1e-3 * torch.eye(centres, dtype=torch.float64)
        slope = torch.cat([start_of(potential).slope(s), s.new_zeros(centres)])
        both = torch.cat([basis, ridge])
        first = cast(Tensor, torch.linalg.solve(both.mT @ both, both.mT @ slope))
        each = first if filters is None else first.expand(filters, -1)
        return RadialBasis(each.to(torch.get_default_dtype()), reach=reach)

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {
            "coefficients": self.coefficients.detach(),
            "reach": self.reach,
            "width": self.width,
            "learn": self.coefficients.requires_grad,
        }

    def sets(self) -> Mapping[str, Set]:
        """Bounded, so that L stays finite."""
        return {"coefficients": Box(-LARGEST, LARGEST)}

    def accounted(self) -> frozenset[str]:
        """The coefficients."""
        return frozenset({"coefficients"})

    @property
    def potential(self) -> EvenFunction:
        """The sum of Gaussians."""
        return _Gaussians(self.coefficients, self.spacing, self.width)

    @property
    def parameter(self) -> Tensor:
        """The coefficients."""
        return self.coefficients

    @property
    def basis_lipschitz(self) -> float:
        """From a grid, and how fast the norm of the derivatives can grow between its places."""
        return _basis_lipschitz(self.coefficients.shape[-1], self.spacing, self.width)

    def basis_norm(self, s: Tensor) -> Tensor:
        """Added up centre by centre."""
        total, size = torch.zeros_like(s), s.abs()
        for k in range(1, self.coefficients.shape[-1] + 1):
            total = total + _pair(size, k * self.spacing, self.width).square()
        return total.sqrt()


@dataclass(frozen=True)
class _Gaussians(EvenFunction):
    coefficients: Tensor
    spacing: float
    width: float

    @cached_property
    def _constants(self) -> Constants:
        """Between places h apart, g exceeds its values at them by at most h² sup |g''|/8."""
        c = self.coefficients.detach().double().cpu().movedim(-1, 0)  # (n,) or (n, m)
        s, first, second = _grid(len(c), self.spacing, self.width)
        bend, rate, w = first @ c, second @ c, self.width
        total = 2 * c.abs().sum(0)
        third, fourth = THIRD / w**3 * total, FOURTH / w**4 * total
        over, tail = (w / FINE) ** 2 / 8, 1e-12 * total / w
        least = bend.amin(0).clamp_max(0) - over * third - tail
        most = bend.amax(0).clamp_min(0) + over * third + tail
        lipschitz = rate.abs().amax(0) + over * fourth + tail / w
        stretched = bend + s.view(-1, *[1] * (c.ndim - 1)) * rate
        scale = stretched.abs().amax(0) + over * (3 * third + float(s[-1]) * fourth) + tail
        steep = torch.maximum(torch.maximum(most, -least), scale)
        least, most, lipschitz, steep = (
            per_channel(v).to(self.coefficients.device) for v in (least, most, lipschitz, steep)
        )
        return Constants(
            least, lipschitz, 1.12 * lipschitz, curvature_max=most, scale_lipschitz=steep
        )

    @property
    def constants(self) -> Constants:
        return self._constants

    def _terms(self) -> tuple[Tensor, ...]:
        return tuple(per_channel(c) for c in self.coefficients.unbind(-1))

    def value(self, s: Tensor) -> Tensor:
        return _value(s, self._terms(), self.spacing, self.width)

    def slope(self, s: Tensor) -> Tensor:
        return _slope(s, self._terms(), self.spacing, self.width)

    def ratio(self, s: Tensor) -> Tensor:
        safe = s.abs().clamp_min(torch.finfo(s.dtype).eps)
        return self.slope(safe) / safe

    def curvature(self, s: Tensor) -> Tensor:
        return _curvature(s, self._terms(), self.spacing, self.width)

    def majorant(self, s: Tensor) -> Tensor:
        return torch.zeros_like(s) + torch.as_tensor(self.constants.curvature_max).to(s)

    def jump(self, s: Tensor, reach: Tensor) -> Tensor:
        return torch.zeros_like(s)


@fused
def _value(s: Tensor, terms: tuple[Tensor, ...], spacing: float, width: float) -> Tensor:
    total, root = torch.zeros_like(s), math.sqrt(2) * width
    for k, c in enumerate(terms, 1):
        rise = torch.erf((s - k * spacing) / root) - torch.erf((s + k * spacing) / root)
        total = total + c * (rise + 2 * math.erf(k * spacing / root))
    return math.sqrt(math.pi / 2) * width * total


@fused
def _slope(s: Tensor, terms: tuple[Tensor, ...], spacing: float, width: float) -> Tensor:
    total, size = torch.zeros_like(s), s.abs()
    for k, c in enumerate(terms, 1):
        total = total + c * _pair(size, k * spacing, width)
    return torch.sign(s) * total


@fused
def _curvature(s: Tensor, terms: tuple[Tensor, ...], spacing: float, width: float) -> Tensor:
    total, square = torch.zeros_like(s), width**2
    for k, c in enumerate(terms, 1):
        near, far = s - k * spacing, s + k * spacing
        bent = far * torch.exp(-far * far / (2 * square))
        total = total + c * (bent - near * torch.exp(-near * near / (2 * square)))
    return total / square


def _pair(size: Tensor, centre: float, width: float) -> Tensor:
    """g(s - centre) - g(s + centre) for s >= 0, without cancellation near 0."""
    near = size - centre
    fall = -torch.expm1(-2 * centre / width**2 * size)
    return torch.exp(-near * near / (2 * width**2)) * fall


def _basis(s: Tensor, count: int, spacing: float, width: float, order: int) -> Tensor:
    """φ_k, or its first or second derivative, at places s (N,): (N, count)."""
    centres = spacing * torch.arange(1, count + 1, dtype=s.dtype)

    def derivative(u: Tensor) -> Tensor:
        g = torch.exp(-u * u / 2)
        return (g, -u * g, (u * u - 1) * g)[order] / width**order

    return derivative((s[:, None] - centres) / width) - derivative((s[:, None] + centres) / width)


@cache
def _grid(count: int, spacing: float, width: float) -> tuple[Tensor, Tensor, Tensor]:
    """Places from 0 to where nothing is left, and there the first two derivatives of all φ_k."""
    places = math.ceil((count * spacing / width + FAR) * FINE) + 1
    s = width / FINE * torch.arange(places, dtype=torch.float64)
    first, second = (_basis(s, count, spacing, width, order) for order in (1, 2))
    return s, first, second


@cache
def _basis_lipschitz(count: int, spacing: float, width: float) -> float:
    """sup ‖(φ_k')_k‖: on the grid, and ‖(φ_k'')_k‖ <= √n 2/γ² for half a step."""
    _, first, _ = _grid(count, spacing, width)
    largest = float(first.square().sum(1).sqrt().max())
    return largest + math.sqrt(count) / (width * FINE)
