"""Potentials that are learned: ψ' a linear combination of fixed functions, one for all or each."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_choice, numbers
from bilevel.ground.errors import InputError
from bilevel.model.part import Part
from bilevel.model.potentials import POTENTIALS, Constants, EvenFunction
from bilevel.model.sets import Box, Set
from bilevel.model.splines import OddSpline, even_knots

__all__ = ["LearnedPotential", "LinearSpline", "each_or_one", "per_channel", "start_of"]

REACH = 20.0
"""Up to which |s| = |t|/ν the potentials of the library begin with a shape of their own."""


class LearnedPotential(Part):
    """ψ with ψ'(s) = Σ_k c_k φ_k(s): odd φ_k, coefficients (n,) for all filters or (m, n)."""

    reach: float
    """Up to which s the potential has a shape of its own."""

    @property
    @abstractmethod
    def potential(self) -> EvenFunction:
        """ψ at the present coefficients."""

    @property
    @abstractmethod
    def parameter(self) -> Tensor:
        """c, (n,) or (m, n)."""

    @property
    @abstractmethod
    def basis_lipschitz(self) -> float:
        """A bound of |Σ_k δ_k φ_k'| for every δ of norm 1."""

    @abstractmethod
    def basis_norm(self, s: Tensor) -> Tensor:
        """‖(φ_k(s))_k‖, in the shape of s."""


class LinearSpline(LearnedPotential):
    """ψ' an odd linear spline whose slopes are learned in an interval, constant beyond the knots.

    ψ is its exact integral, piecewise quadratic, with ψ(0) = 0 and ψ'' in [slope_min, slope_max].

    Args:
        knots: (n,) > 0, ascending: where the slope changes, in units of the smoothing [1].
        slopes: between 0, the first knot, the next, ...: (n,), or (m, n), a row for each filter.
        slope_min: least slope; 0 keeps ψ convex.
        slope_max: largest slope.
        learn: whether the slopes are learned.

    Raises:
        InputError: knots that do not ascend from 0, slopes of another shape or outside of their
            interval, an empty interval.

    Source: Goujon et al. 2022 (arXiv 2211.12461); Nguyen, Bostan, Unser 2018.

    Example:
        >>> spline = LinearSpline(torch.tensor([1.0, 2.0]), torch.tensor([1.0, -0.5]))
        >>> spline.potential.value(torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)).detach().flatten()
        tensor([0.0000, 1.2500])
    """

    slopes: nn.Parameter
    knots: Tensor

    def __init__(
        self,
        knots: Tensor,
        slopes: Tensor,
        *,
        slope_min: float = -1.0,
        slope_max: float = 1.0,
        learn: bool = True,
    ) -> None:
        super().__init__()
        given = numbers(knots, "knots")
        if given.ndim != 1 or not len(given):
            raise InputError("knots must have shape (n,)", given=tuple(given.shape))
        if not bool((torch.cat([given.new_zeros(1), given]).diff() > 0).all()):
            raise InputError(
                "knots must ascend and be positive", given=[float(v) for v in given[:6]]
            )
        if not -math.inf < slope_min < slope_max < math.inf or slope_max <= 0:
            what = "slopes need an interval with slope_min < slope_max and slope_max > 0"
            raise InputError(what, given=(slope_min, slope_max))
        self.slope_min, self.slope_max = slope_min, slope_max
        self.knots = given
        first = each_or_one(slopes, len(given), "slopes")
        if not bool(((first >= slope_min) & (first <= slope_max)).all()):
            ends = float(first.min()), float(first.max())
            raise InputError(f"slopes must lie in [{slope_min:g}, {slope_max:g}]", given=ends)
        self.slopes = nn.Parameter(first, requires_grad=learn)
        steps = torch.cat([given.new_zeros(1), given]).diff()
        even = bool(((steps - steps.mean()).abs() <= 1e-5 * steps.mean()).all())
        self.reach = float(given[-1])
        self.spacing = float(given[-1]) / len(given) if even else None

    @staticmethod
    def like(
        potential: str,
        filters: int | None = None,
        *,
        reach: float = REACH,
        intervals: int = 50,
        slope_min: float = -1.0,
        slope_max: float = 1.0,
    ) -> LinearSpline:
        """The interpolation of another potential at even knots; ``filters`` times if given.

        Raises:
            InputError: an unknown potential, a reach that is not positive, no interval.
        """
        if not (0 < reach < math.inf and intervals >= 1):
            what = "a spline needs a positive reach and at least 1 interval"
            raise InputError(what, given=(reach, intervals))
        knots = even_knots(reach, intervals)
        ends = torch.cat([knots.new_zeros(1), knots]).double()
        slopes = start_of(potential).slope(ends).diff() / ends.diff()
        first = slopes.clamp(slope_min, slope_max).to(knots)
        each = first if filters is None else first.expand(filters, -1)
        return LinearSpline(knots, each, slope_min=slope_min, slope_max=slope_max)

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {
            "knots": self.knots,
            "slopes": self.slopes.detach().clamp(self.slope_min, self.slope_max),
            "slope_min": self.slope_min,
            "slope_max": self.slope_max,
            "learn": self.slopes.requires_grad,
        }

    def sets(self) -> Mapping[str, Set]:
        """Slopes in their interval."""
        return {"slopes": Box(self.slope_min, self.slope_max)}

    def accounted(self) -> frozenset[str]:
        """The slopes."""
        return frozenset({"slopes"})

    @property
    def potential(self) -> EvenFunction:
        """The integral of the spline."""
        return _Integral(OddSpline(self.knots, self.slopes, self.spacing))

    @property
    def parameter(self) -> Tensor:
        """The slopes."""
        return self.slopes

    @property
    def basis_lipschitz(self) -> float:
        """1: only one of the φ_k changes at a time, as fast as s."""
        return 1.0

    def basis_norm(self, s: Tensor) -> Tensor:
        """Of how far |s| has come in every interval."""
        return OddSpline(self.knots, self.slopes, self.spacing).lengths(s)


@dataclass(frozen=True)
class _Integral(EvenFunction):
    spline: OddSpline

    @cached_property
    def _constants(self) -> Constants:
        steep = self.spline.steep.detach().double()
        least, most = (per_channel(v) for v in steep.aminmax(dim=-1))
        bent = self.spline.levels.detach().double().abs()[..., 1:]
        knots = self.spline.knots.double()
        return Constants(
            least,
            0.0,
            per_channel(2 / math.sqrt(3) * (bent / knots.square()).amax(-1)),
            curvature_max=most,
            scale_lipschitz=torch.maximum(most, -least),
        )

    @property
    def constants(self) -> Constants:
        return self._constants

    def value(self, s: Tensor) -> Tensor:
        return self.spline.integral(s)

    def slope(self, s: Tensor) -> Tensor:
        return self.spline.value(s)

    def ratio(self, s: Tensor) -> Tensor:
        first = self.spline.knots[0]
        safe = torch.where(s.abs() < first, first, s)
        near = self.spline.heights[..., 1] / first
        return torch.where(s.abs() < first, per_channel(near), self.spline.value(safe) / safe)

    def curvature(self, s: Tensor) -> Tensor:
        return self.spline.slope(s)

    def majorant(self, s: Tensor) -> Tensor:
        return torch.zeros_like(s) + torch.as_tensor(self.constants.curvature_max).to(s)

    def jump(self, s: Tensor, reach: Tensor) -> Tensor:
        return self.spline.slope_change(s, reach.to(s))


def start_of(potential: str) -> EvenFunction:
    """A potential without parameters, to begin with."""
    check_choice(potential, POTENTIALS, "potential to start from")
    return POTENTIALS[potential]


def each_or_one(values: Tensor, count: int, name: str) -> Tensor:
    """Coefficients (n,) or (m, n), as they are kept.

    Raises:
        InputError: another shape, values that are not finite.
    """
    given = numbers(values, name)
    if given.ndim not in (1, 2) or given.shape[-1] != count or not len(given):
        expected = f"{name} must have shape ({count},), or (m, {count}), a row for each filter"
        raise InputError(expected, given=tuple(given.shape))
    return given


def per_channel(value: Tensor) -> Tensor:
    """() or (m,) as it multiplies features (b, m, h, w)."""
    return value[:, None, None] if value.ndim else value
