"""R(x) = w Σ_j σ_j⁻² Σ_i Ψ(σ_j (W x)_ji) for a cascade W: all that no profile Ψ has to say."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Smoothness, Variation
from bilevel.model.operators.operator import Shape
from bilevel.model.part import around
from bilevel.model.preconditioner import Stencil
from bilevel.model.regularisers.cascade import (
    Cascade,
    analyse,
    checked,
    estimated_norm,
    layer_norm,
    rounded_norms,
    row_norms,
)
from bilevel.model.regularisers.filter_variation import Forces, filter_variation
from bilevel.model.regularisers.profiles import Profile
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.sets import Set, ZeroMean

__all__ = ["CascadeBall", "CascadeRegulariser"]

C = TypeVar("C", bound="CascadeRegulariser")


@dataclass(frozen=True)
class CascadeBall:
    """What ‖x' - x‖ <= radius means for the features s = b σ W x and u = W q.

    ``move`` >= ‖W(x' - x)‖ (b,), ``reach`` >= |s' - s|, ``norm`` >= ‖W‖.
    """

    profile: Profile
    s: Tensor
    u: Tensor
    norm: Tensor
    move: Tensor
    reach: Tensor


class CascadeRegulariser(Regulariser):
    """W is a cascade of zero-padded convolutions, the first of mean zero, over its ``norm``.

    Subclasses give the profile Ψ, the scales σ, and the variation of their own parameters.
    """

    filters: nn.ParameterList
    norm: Tensor
    log_weight: nn.Parameter
    log_scaling: nn.Parameter

    def _take_filters(
        self, filters: Sequence[Tensor], norm: float | None, learn: Collection[str]
    ) -> list[Tensor]:
        """Keep the banks, the first made mean-free, and ``norm``, a proved one if None."""
        banks = checked(filters)
        banks[0] = ZeroMean().project(banks[0])
        proved = math.prod(float(layer_norm(bank)) for bank in banks)
        if norm is not None:
            check_positive(norm, "norm")
        learned = "filters" in learn
        self.filters = nn.ParameterList(nn.Parameter(b, requires_grad=learned) for b in banks)
        self.register_buffer("norm", banks[0].new_tensor(proved if norm is None else norm))
        return banks

    @property
    @abstractmethod
    def profile(self) -> Profile:
        """Ψ at the present parameters."""

    @property
    @abstractmethod
    def _log_scales(self) -> Tensor:
        """log σ, (m,), or (b, m, 1, 1) with a value for each row."""

    @property
    def _log_stretch(self) -> Tensor | float:
        """log b, the factor that the profile wants its argument to have."""
        return 0.0

    @abstractmethod
    def own_variation(self, x: Tensor, ball: CascadeBall) -> list[Variation]:
        """Of the parameters beside weight and filters."""

    def normalised(self: C, *, proved: bool = True, keep_weight: bool = False) -> C:
        """A copy whose W has norm 1: ‖W‖ <= 1 is proved, or estimated far from the border.

        The same R with a weight times n² and scales times n, where n was the norm: ‖W‖ is no
        degree of freedom. Then ∇²R >= w inf Ψ'' is proved. With ``keep_weight`` the weight stays,
        R is divided by n², and this lower bound is what it was meant to be, as in training with a
        fixed weight.
        """
        twin = copy.deepcopy(self)
        with torch.no_grad():
            banks = list(twin.filters)
            layers = torch.stack([layer_norm(bank) for bank in banks])
            norm = (layers.prod() if proved else estimated_norm(banks)).to(self.norm)
            factor = (norm / self.norm).log()
            twin.norm.copy_(norm)
            twin.log_scaling.add_(factor)
            twin.log_weight.add_(0.0 if keep_weight else 2 * factor)
        return twin

    def drawn(self) -> tuple[Tensor, Tensor]:
        """Arguments r (n,) up to 1.5, and the profile Ψ there, (1, n)."""
        r = torch.arange(-300, 301, dtype=torch.float64) / 200
        with torch.no_grad():
            stretch = torch.as_tensor(self._log_stretch, dtype=r.dtype).exp()
            s = (stretch * r).to(self.norm).view(-1, 1, 1, 1)
            value = self.profile.value_and_force(s, self.norm.new_ones(1))[0].double()
        return r, (value / stretch)[None]

    def owners(self) -> dict[str, Tensor]:
        """A parameter for each name in ``learn``."""
        return {
            "filters": self.filters[0],
            "scaling": self.log_scaling,
            "weight": self.log_weight,
        }

    def options(self) -> dict[str, object]:
        """What builds it again; the values travel as parameters."""
        return {
            "filters": [bank.detach() for bank in self.filters],
            "norm": float(self.norm),
            "learn": [name for name, p in self.owners().items() if p.requires_grad],
        }

    def sets(self) -> Mapping[str, Set]:
        """Positive scalars, first filters of mean zero."""
        return {
            "filters.0": ZeroMean(),
            "log_weight": around(self.log_weight),
            "log_scaling": around(self.log_scaling),
        }

    def check(self, image_shape: Shape) -> None:
        """Channels must match."""
        channels = self.filters[0].shape[1]
        if channels != image_shape[0]:
            expected = f"filters of {channels} channel(s) do not fit"
            raise InputError(expected, given=f"images (c, h, w) = {image_shape}")

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        return self.profile.value_and_force(self._features(x), self._totals)[0]

    def grad(self, x: Tensor) -> Tensor:
        """Wᵀ(w/σ) Ψ'(σ t)."""
        return self._pull.transpose(self.profile.force(self._features(x)))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with W x computed once."""
        value, force = self.profile.value_and_force(self._features(x), self._totals)
        return value, self._pull.transpose(force)

    def hessian(self, x: Tensor) -> LinearMap:
        """Wᵀ w Ψ''(σ t) W, an element of the Clarke derivative."""
        return _curved(self.profile.curvature(self._features(x)), self._push, self._pull)

    def majoriser(self, x: Tensor) -> LinearMap:
        """Wᵀ w M W with a majorant of the profile."""
        return _curved(self.profile.majorant(self._features(x)), self._push, self._pull)

    def stencils(self, x: Tensor) -> list[Stencil] | None:
        """Like the majoriser, as one layer of filters; right where the image's border is far."""
        *first, last = self.filters
        scale = (0.5 * (self.log_weight + self._log_stretch)).exp() / self.norm
        sides = [1 + sum(bank.shape[axis] - 1 for bank in self.filters) for axis in (2, 3)]
        pixels = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[:, :, None, None]
        border = sides[1] // 2, sides[1] // 2, sides[0] // 2, sides[0] // 2
        response = analyse([*first, scale * last], pad(pixels, border))
        weights = self.profile.leaning(self._features(x))
        return [Stencil(response.transpose(0, 1).flip(2, 3), weights)]

    @property
    def _push(self) -> Cascade:
        """b σ W."""
        return Cascade.of([*self.filters], (self._log_stretch + self._log_scales).exp() / self.norm)

    @property
    def _pull(self) -> Cascade:
        """(w/σ) W."""
        return Cascade.of([*self.filters], (self.log_weight - self._log_scales).exp() / self.norm)

    @property
    def _totals(self) -> Tensor:
        """w/b σ_j⁻², what Σ_i b Ψ is multiplied by."""
        return (self.log_weight - self._log_stretch - 2 * self._log_scales).exp()

    def _features(self, x: Tensor) -> Tensor:
        """s = b σ W x."""
        return self._push(x)

    def bounds(self, image_shape: Shape) -> Bounds:
        """w ‖W‖² times the least value of Ψ'' and the largest of either sign."""
        del image_shape
        weight = self.log_weight.detach().double().exp()
        square = self._norm_bound().square()
        least, most = (slope.detach() for slope in self.profile.slopes)
        return Bounds.of(least * weight * square, weight * torch.maximum(most, -least) * square)

    def accounted(self) -> frozenset[str]:
        """Weight, scaling and filters."""
        banks = {f"filters.{k}" for k in range(len(self.filters))}
        return frozenset({"log_weight", "log_scaling", *banks})

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """From the features that may cross a kink within the ball.

        With u = W q, crossing one changes the curvature of a feature by w ΔΨ''; ∂∇R/∂log σ is
        constant between kinks; for the filters see :func:`filter_variation`.
        """
        with torch.no_grad():
            ball = self._ball(x, q, radius)
            leap = ball.profile.curvature_change(ball.s, ball.reach.to(x))
            bend = self.log_weight.exp() * rows.length(leap * ball.u)
            parts = [
                self._weight_variation(x, ball),
                *self.own_variation(x, ball),
                self._filter_variation(x, q, radius, ball, bend),
            ]
            cross = torch.stack([p.cross for p in parts]).square().sum(0).sqrt()
            cross_norm = torch.stack([p.cross_norm for p in parts]).square().sum(0).sqrt()
            return Variation((ball.norm * bend).double(), cross.double(), cross_norm.double())

    def _ball(self, x: Tensor, q: Tensor, radius: Tensor) -> CascadeBall:
        norm, s = self._norm_bound().to(x), self._features(x)
        u, reach = analyse(list(self.filters), q) / self.norm, self._reach(s, radius, x)
        return CascadeBall(self.profile, s, u, norm, norm * radius.to(x), reach)

    def _reach(self, s: Tensor, radius: Tensor, x: Tensor) -> Tensor:
        """How far the features may move within the ball; rounding counted in."""
        banks, size = self._push.banks, (x.shape[2], x.shape[3])
        allowance = 8 * torch.finfo(x.dtype).eps * rows.norm(x)
        reach = rows.expand(radius.to(x), s) * row_norms(banks, *size).to(x)
        return reach + rows.expand(allowance, s) * rounded_norms(banks, *size).to(x)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Piecewise quadratic."""
        with torch.no_grad():
            s = self._features(x)
            leap = self.profile.curvature_change(s, self._reach(s, radius, x))
            return Smoothness.of(leap > 0, 0.0)

    def _weight_variation(self, x: Tensor, ball: CascadeBall) -> Variation:
        if not self.log_weight.requires_grad:
            return Variation.zero(x)
        stiff = self.log_weight.exp() * ball.profile.steepest
        cross = stiff * rows.length(ball.u) * ball.move
        return Variation(
            cross * 0, cross, rows.length(self.grad(x)) + stiff * ball.norm * ball.move
        )

    def scale_variation(self, ball: CascadeBall) -> Variation:
        """Of log σ, one a channel."""
        force = self.log_weight.exp() / self._log_scales.exp()[:, None, None]
        level = force * ball.profile.level(ball.s)
        leap = force * ball.profile.level_change(ball.s, ball.reach)
        cross = (leap * ball.u.abs()).sum((2, 3)).square().sum(1).sqrt()
        reach = (level.square().sum((2, 3)).sqrt() + leap.square().sum((2, 3)).sqrt()).amax(1)
        return Variation(cross * 0, cross, ball.norm * reach)

    def _filter_variation(
        self, x: Tensor, q: Tensor, radius: Tensor, ball: CascadeBall, bend: Tensor
    ) -> Variation:
        if not self.filters[0].requires_grad:
            return Variation.zero(x)
        weight, profile = self.log_weight.exp(), ball.profile
        force = weight / self._log_scales.exp()[:, None, None] * profile.force(ball.s)
        stretch = torch.as_tensor(self._log_stretch, dtype=x.dtype).exp()
        bent = weight * stretch * profile.curvature(ball.s) * ball.u
        stiff = (weight * profile.steepest).double()
        forces = Forces(force, bent, stiff, ball.move.double(), bend.double())
        return filter_variation(list(self.filters), self.norm, x, q, radius, forces)

    def _norm_bound(self) -> Tensor:
        """A proved upper bound of ‖W‖: the product of the layers'."""
        layers = torch.stack([layer_norm(bank) for bank in self.filters])
        return layers.prod() / self.norm.double()


def _curved(curve: Tensor, push: Cascade, pull: Cascade) -> LinearMap:
    def apply(v: Tensor) -> Tensor:
        return pull.transpose(push(v).mul_(curve))

    return LinearMap(apply, lambda index: _curved(curve[index], push.rows(index), pull.rows(index)))
