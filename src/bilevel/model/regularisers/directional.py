"""Total variation whose direction, anisotropy and exponent may change from pixel to pixel."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from bilevel.ground.checks import numbers
from bilevel.linear import LinearMap
from bilevel.model import local_power, powers
from bilevel.model.bounds import Bounds, Smoothness, Variation
from bilevel.model.directions import (
    LARGEST_ANISOTROPY,
    LARGEST_EXPONENT,
    LEAST_EXPONENT,
    check_exponent,
    check_maps,
    check_sizes,
    direction,
)
from bilevel.model.local_power import DIFFERENCES, Entries, LocalPower
from bilevel.model.maps import Between, Grid
from bilevel.model.metrics import Metric
from bilevel.model.operators.operator import Shape
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.regularisers.power_ball import PIXEL, Ball
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.sets import Box, Set
from bilevel.model.smooth import Summand

__all__ = ["DirectionalTV"]

PARAMETERS = ("weight", "smoothing", "exponent", "direction", "gain")
STEEPEST = 0.5 * math.log(LARGEST_ANISOTROPY)


class DirectionalTV(Regulariser):
    """Total variation with a direction, an anisotropy and an exponent for every pixel, smoothed.

    R(x) = Σ_i w_i s^(1 - p_i) [(g_iᵀ M_i g_i + ε²)^(p_i/2) - ε^(p_i)], g_i = (right, down) the
    forward differences of pixel i (zero across the last row and column), channel by channel.

    M = exp [[b + c, s], [s, b - c]] has eigenvalues e^(b ± r), r² = c² + s²: what varies along
    ``angle`` = ½ atan2(s, c) costs most, ``anisotropy`` = e^(2r) times more than across. So the
    angle is that of stripes and edges. For p = 1 and M = I it is the Charbonnier total variation
    of :class:`TotalVariation`, with ν = ε. Where ``smoothing`` tends to 0 it is the directional
    total variation DTV_p^sv of Calatroni, Lanza, Pragliola and Sgallari 2019 (arXiv 1904.01799).

    With ‖D‖² <= 8, λ the larger eigenvalue of M and a = w s^(1 - p) p ε^(p - 2),

        -8 max_i a_i λ_i 2((1 - p_i)/(4 - p_i))^(2 - p_i/2) <= ∇²R <= 8 max_i a_i λ_i,

    the factor on the left being 0 where p >= 1: R is convex there, weakly convex otherwise. The
    parameters that are learned are log w, log ε, p, (c, s) and b; the exponent itself, in
    [0.3, 2], so that 1 and 2 are exact. With a ``grid`` these are what lies at its knots and is
    interpolated, angles never being so themselves.

    Args:
        weight: factor w, one or a map (h, w); with a grid one or a value a knot, as below [1].
        smoothing: ε, where the penalty turns from quadratic to a power [grey value].
        exponent: p in [0.3, 2], one or a map (h, w) [1].
        angle: from the rows' direction towards greater row numbers, one or a map (h, w) [degree].
        anisotropy: in [1, 50], one or a map (h, w) [1].
        grid: rows and columns of knots that carry the maps of images of any size; no knots if None.
        between: what lies between the knots.
        scale: the length of a gradient at which every exponent costs the same [grey value].
        learn: names of what is learned; ``direction`` is angle and anisotropy together, ``gain``
            is √det M = e^b, which starts at 1.

    Raises:
        InputError: a weight, smoothing or scale that is not positive, an exponent or an
            anisotropy out of range, maps of different sizes, an unknown name in ``learn``.

    Example:
        >>> stripes = torch.arange(8.0).remainder(2).expand(1, 1, 8, 8)
        >>> along, across = (DirectionalTV(1.0, 0.01, angle=a, anisotropy=9) for a in (90, 0))
        >>> [round(r(stripes).item(), 1) for r in (along, across)]
        [31.8, 96.4]
    """

    log_weight: Tensor
    log_smoothing: Tensor
    log_gain: Tensor
    log_scale: Tensor
    maps: ClassVar[frozenset[str]] = frozenset(
        {"log_weight", "exponent", "cosine", "sine", "log_gain"}
    )

    def __init__(
        self,
        weight: float | Tensor | None = None,
        smoothing: float | None = None,
        exponent: float | Tensor = 1.0,
        angle: float | Tensor = 0.0,
        anisotropy: float | Tensor = 1.0,
        *,
        grid: Sequence[int] | None = None,
        between: Between = "bilinear",
        scale: float | None = None,
        learn: Collection[str] = ("weight",),
    ) -> None:
        """Weight 0.05, ε 0.01 and scale 1 for a contrast of 1 where None is given."""
        super().__init__()
        check_learn(learn, PARAMETERS)
        self.grid = Grid.of(grid, between)
        usual = self._filled(torch.tensor(0.05), "weight")
        if weight is not None:
            weight = self._filled(numbers(weight, "weight"), "weight")
        self.log_weight = self.weighted(weight, usual, learn)
        self.log_smoothing = self.smoothed(smoothing, 0.01, learn)
        if scale is None:
            self.leave("log_scale", grey=1)
        self.log_scale = positive_parameter(1.0 if scale is None else scale, "scale", ())
        exponent = self._filled(check_exponent(exponent), "exponent")
        self.exponent = nn.Parameter(exponent, "exponent" in learn)
        turned = (self._filled(v, "direction") for v in direction(angle, anisotropy))
        self.cosine, self.sine = (nn.Parameter(v, "direction" in learn) for v in turned)
        self.log_gain = nn.Parameter(torch.zeros_like(self.cosine), "gain" in learn)
        check_maps({name: getattr(self, name) for name in sorted(self.maps)})

    def _filled(self, value: Tensor, name: str) -> Tensor:
        return value if self.grid is None else self.grid.filled(value, name)

    def broadcasts(self) -> frozenset[str]:
        """All: everything is pixel by pixel."""
        return self.maps | {"log_smoothing"}

    def sets(self) -> Mapping[str, Set]:
        """Bounded, so that L stays finite: an anisotropy of 50 along the axes and diagonals."""
        turned = Box(-STEEPEST, STEEPEST)
        return {
            "log_weight": around(self.log_weight),
            "log_smoothing": around(self.log_smoothing, (0.1, 1e6)),
            "log_gain": around(self.log_gain, (1e-2, 1e2)),
            "exponent": Box(LEAST_EXPONENT, LARGEST_EXPONENT),
            "cosine": turned,
            "sine": turned,
        }

    def accounted(self) -> frozenset[str]:
        """All."""
        return self.broadcasts()

    def options(self) -> dict[str, object]:
        """What builds it again; maps keep their shape, the values travel as parameters."""
        given = {
            "weight": self.log_weight,
            "smoothing": self.log_smoothing,
            "exponent": self.exponent,
            "direction": self.cosine,
            "gain": self.log_gain,
        }
        return {
            "weight": self.log_weight.detach().exp(),
            "smoothing": self.log_smoothing.exp().item(),
            "grid": None if self.grid is None else self.grid.knots,
            "between": "bilinear" if self.grid is None else self.grid.between,
            "exponent": self.exponent.detach().clone(),
            "angle": torch.zeros_like(self.cosine.detach()),
            "scale": self.log_scale.exp().item(),
            "learn": [name for name, parameter in given.items() if parameter.requires_grad],
        }

    def check(self, image_shape: Shape) -> None:
        """Maps must have the size of the image, a grid at most as many knots."""
        if self.grid is not None:
            return self.grid.check(image_shape[1:])
        check_sizes({name: getattr(self, name) for name in sorted(self.maps)}, image_shape)

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        return local_power.value(x, *self._local(x).profile())

    def grad(self, x: Tensor) -> Tensor:
        """Dᵀ of a (1 + |y|²)^(p/2 - 1) M g, |y|² = gᵀMg/ε²."""
        return local_power.gradient(x, *self._local(x).profile())

    def summands(self) -> tuple[Summand, ...] | None:
        """One; none on a grid, where the maps depend on the size of x."""
        if self.grid is not None:
            return None
        return ((local_power.gradient, self._on(()).profile()),)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with D x computed once."""
        return local_power.value_and_gradient(x, *self._local(x).profile())

    def hessian(self, x: Tensor) -> LinearMap:
        """Dᵀ a [B^(p/2 - 1) M + (p - 2)/ε² B^(p/2 - 2) Mg gᵀM] D, B = 1 + |y|², curvature kept."""
        return _curved(local_power.curvature(x, *self._local(x).profile()))

    def majoriser(self, x: Tensor) -> LinearMap | None:
        """Dᵀ a B^(p/2 - 1) M D: the power p/2 <= 1 of a quadratic is concave in it."""
        if not self._covered:
            return None
        return _curved(local_power.above(x, *self._local(x).profile()))

    def local(self, image_shape: Shape) -> LocalPower:
        """What every pixel of such images has; numbers stay numbers."""
        return self._on(image_shape[1:])

    def _local(self, x: Tensor) -> LocalPower:
        return self._on((x.shape[2], x.shape[3]))

    def _on(self, size: Sequence[int]) -> LocalPower:
        found = (self.log_weight, self.exponent, self.log_gain, self.cosine, self.sine)
        if self.grid is not None:
            found = tuple(self.grid.spread(part, size) for part in found)
        weight, exponent, *metric = found
        return LocalPower(weight, exponent, Metric(*metric), self.log_smoothing, self.log_scale)

    @property
    def _covered(self) -> bool:
        """Whether all exponents lie in (0, 2], where something is proved."""
        exponent = self.exponent.detach()
        return bool(((exponent > 0) & (exponent <= 2)).all())

    def bounds(self, image_shape: Shape) -> Bounds:
        """As the class says, with the exact norm of the differences; for p in (0, 2]."""
        if not self._covered:
            return Bounds.unknown()
        with torch.no_grad():
            at = self.local(image_shape)
            gram = DIFFERENCES.gram_bounds(image_shape).upper * (1 + 1e-9)
            stiff = (at.stiffness * at.metric.largest()).double()
            least = powers.curvature_min(at.exponent.double())
            return Bounds.of(gram * (stiff * least).min() + 0.0, gram * stiff.max())

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """‖Dᵀ diag(√3 a λ^(3/2) l/ε) D‖, l the Lipschitz constant of ∇²ψ_p."""
        if not self._covered:
            return Smoothness.unknown(x)
        del radius
        with torch.no_grad():
            at = self._local(x)
            largest = at.metric.largest().double()
            steep = at.stiffness * largest.pow(1.5) * powers.lipschitz(at.exponent.double())
            steep = steep.max() / self.log_smoothing.double().exp()
            constant = PIXEL * DIFFERENCES.gram_bounds(_shape(x)).upper * steep
            return Smoothness.of(torch.zeros_like(x, dtype=torch.bool), constant)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Pixel by pixel, in y = M^(1/2) g/ε (docs/decisions/0003).

        ∇R = Dᵀ a ε M^(1/2) ∇ψ_p(y). Its derivatives by log w, log ε, p, b, c and s are, pixel by
        pixel, at most a factor times its size f, and have at most a factor times its Lipschitz
        constant a λ in g: 1 for log w and b, 2 - p for log ε, sinh r/r for c and s (with
        K = M^(-1/2) ∂M M^(-1/2) the Jacobian of (1 + q)^(p/2 - 1) K y
        - (1 - p/2) (1 + q)^(p/2 - 2) (yᵀKy) y pairs K with a matrix of nuclear norm <= 1), and
        those of :mod:`bilevel.model.powers` for p. A grid multiplies them by the norm of P.
        """
        if not self._covered:
            return Variation.unknown(x)
        with torch.no_grad():
            at = self._local(x)
            ball = Ball.of(at, x, q, radius)
            share = 1.0 if self.grid is None else self.grid.norm(x.shape[2:])
            parts = [
                factors
                for name, factors in ball.factors(at).items()
                if getattr(self, name).requires_grad
            ]
            own = ball.variation(parts)
            return Variation(own.hessian, share * own.cross, share * own.cross_norm)


def _curved(curve: Entries) -> LinearMap:
    def restrict(index: Tensor) -> LinearMap:
        return _curved((curve[0][index], curve[1][index], curve[2][index]))

    return LinearMap(lambda v: local_power.through(v, curve), restrict)


def _shape(x: Tensor) -> Shape:
    return x.shape[1], x.shape[2], x.shape[3]
