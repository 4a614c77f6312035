"""R(x) = Σ_i w_i φ_ν((W x)_i) for a linear W: everything that does not depend on which W it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Smoothness, Variation
from bilevel.model.operators.operator import Shape
from bilevel.model.part import around
from bilevel.model.penalties import Penalty
from bilevel.model.potentials import Bound
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.sets import Set

__all__ = ["FeatureBall", "FilteredRegulariser"]


@dataclass(frozen=True)
class FeatureBall:
    """What the ball ‖x' - x‖ <= radius means for the features t = W x and u = W q.

    ``move`` >= ‖W(x' - x)‖; ``reach`` is how far the groups, over ν, may move. Per row.
    ``weight`` multiplies their penalties.
    """

    t: Tensor
    u: Tensor
    weight: Tensor
    radius: Tensor
    move: Tensor
    reach: Tensor


class FilteredRegulariser(Regulariser):
    """Σ_i w_i φ_ν((W x)_i), ``log_weight`` and ``log_smoothing`` as parameters.

    Subclasses give W, its adjoint and two proved norms; and, if W has parameters of its own,
    :meth:`filter_variation` and their names in :meth:`accounted`.
    """

    log_weight: Tensor
    log_smoothing: Tensor

    @property
    def penalty(self) -> Penalty:
        """How features are penalised, at the present parameters."""
        return self.renewed(self._penalty)

    @penalty.setter
    def penalty(self, value: Penalty) -> None:
        self._penalty = value

    def renewed(self, penalty: Penalty) -> Penalty:
        """The same unless the potential has parameters."""
        return penalty

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """W x."""

    @abstractmethod
    def features_adjoint(self, p: Tensor, image_shape: Shape) -> Tensor:
        """Wᵀ p."""

    @abstractmethod
    def gram_bound(self, scale: Tensor, image_shape: Shape) -> Tensor:
        """A proved upper bound of ‖Wᵀ diag(scale) W‖; ``scale`` >= 0 in the shape of the weight."""

    @abstractmethod
    def feature_norm(self) -> Tensor:
        """Proved upper bounds of the norms of W's rows, groups together, that fit the weight."""

    def accounted(self) -> frozenset[str]:
        """Weight and smoothing; who overrides :meth:`filter_variation` adds those of W."""
        return frozenset({"log_weight", "log_smoothing"})

    def filter_variation(self, ball: FeatureBall, x: Tensor, q: Tensor, bend: Tensor) -> Variation:
        """The part of the parameters of W; ``bend`` >= ‖(w Δφ'') u‖. Zero when W has none."""
        del ball, q, bend
        return Variation.zero(x)

    def potential_variation(self, ball: FeatureBall, x: Tensor, norm: Tensor) -> Variation:
        """The part of the parameters of the potential. Zero when it has none."""
        del ball, norm
        return Variation.zero(x)

    @property
    def weight(self) -> Tensor:
        """w as it is learned, in the shape that multiplies the penalties unless it is on a grid."""
        return self.log_weight.exp()

    def weights(self, image_shape: Shape) -> Tensor:
        """w, in the shape that multiplies the penalties of such images; :attr:`weight` itself."""
        del image_shape
        return self.weight

    def spreading(self, image_shape: Shape) -> float:
        """A proved bound of ‖∂log w/∂log_weight‖, of :meth:`weights`; 1 as w is learned itself."""
        del image_shape
        return 1.0

    @property
    def smoothing(self) -> Tensor:
        """ν, in grey values."""
        return self.log_smoothing.exp()

    def sets(self) -> Mapping[str, Set]:
        """Positive and bounded, so that L stays finite."""
        return {name: around(getattr(self, name)) for name in ("log_weight", "log_smoothing")}

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        return self.penalty.total(self.features(x), self.weights(_shape(x)), self.smoothing)

    def grad(self, x: Tensor) -> Tensor:
        """Wᵀ(w φ'(W x))."""
        shape = _shape(x)
        pull = self.penalty.pull(self.features(x), self.weights(shape), self.smoothing)
        return self.features_adjoint(pull, shape)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with W x computed once."""
        t, shape = self.features(x), _shape(x)
        total, pull = self.penalty.total_and_pull(t, self.weights(shape), self.smoothing)
        return total, self.features_adjoint(pull, shape)

    def hessian(self, x: Tensor) -> LinearMap:
        """Wᵀ diag(w φ''(W x)) W with the curvature kept."""
        return self._hessian(self.features(x), _shape(x))

    def _hessian(self, t: Tensor, shape: Shape) -> LinearMap:
        curve = self.penalty.curvature(t, self.weights(shape), self.smoothing)

        def apply(v: Tensor) -> Tensor:
            return self.features_adjoint(curve(self.features(v)), shape)

        return LinearMap(apply, lambda index: self._hessian(t[index], shape))

    def majoriser(self, x: Tensor) -> LinearMap:
        """Wᵀ diag(w M(s)/ν) W with s = |W x|/ν and the majorant of the potential."""
        return self._majoriser(self.features(x), _shape(x))

    def _majoriser(self, t: Tensor, shape: Shape) -> LinearMap:
        size = self.penalty.size(t) / self.smoothing
        weights = self.weights(shape) * (self.penalty.potential.majorant(size) / self.smoothing)

        def apply(v: Tensor) -> Tensor:
            spread = self.penalty.spread(weights, self.features(v))
            return self.features_adjoint(spread, shape)

        return LinearMap(apply, lambda index: self._majoriser(t[index], shape))

    def bounds(self, image_shape: Shape) -> Bounds:
        """‖Wᵀ diag(w/ν) W‖ with the least and the largest curvature of the potential."""
        stiff = (self.weights(image_shape) / self.smoothing).detach()
        constants = self.penalty.potential.constants
        concave = (stiff * -constants.curvature_min).clamp_min(0.0)
        convex = (stiff * constants.curvature_max).clamp_min(0.0)
        upper = self.gram_bound(convex, image_shape)
        if not bool(concave.any()):
            return Bounds.of(0.0, upper)
        lower = self.gram_bound(concave, image_shape)
        return Bounds.of(-lower, torch.maximum(lower, upper))

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """From the features of x and q, group by group (docs/decisions/0003)."""
        with torch.no_grad():
            ball = self._ball(x, q, radius)
            bend = self._bend(ball)
            norm = self._norm(x)
            parts = [
                self._weight_variation(ball, x, norm),
                self._smoothing_variation(ball, x, norm),
                self.potential_variation(ball, x, norm),
                self.filter_variation(ball, x, q, bend),
            ]
            cross = torch.stack([p.cross for p in parts]).square().sum(0).sqrt()
            cross_norm = torch.stack([p.cross_norm for p in parts]).square().sum(0).sqrt()
            return Variation(norm * bend, cross, cross_norm)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """‖Wᵀ(w λ ‖W_i‖/ν²) W‖ bounds how fast ∇²R changes between kinks, λ as in the penalty."""
        with torch.no_grad():
            size = self.penalty.size(self.features(x)) / self.smoothing
            crossing = self.penalty.jump(size, self._reach(size, radius, x)) > 0
            steep = self.penalty.lipschitz / self.smoothing.double() ** 2
            scale = self.weights(_shape(x)).double() * steep * self.feature_norm()
            return Smoothness.of(crossing, self.gram_bound(scale, _shape(x)))

    def _reach(self, size: Tensor, radius: Tensor, x: Tensor) -> Tensor:
        """How far |W x|/ν may move within the ball, group by group; rounding counted in."""
        allowance = 8 * torch.finfo(x.dtype).eps * rows.norm(x)
        return self.feature_norm() * rows.expand(radius + allowance, size) / self.smoothing

    def _norm(self, x: Tensor) -> Tensor:
        one = torch.ones_like(self.weights(_shape(x)) * self.smoothing)
        return self.gram_bound(one, _shape(x)).sqrt()

    def _ball(self, x: Tensor, q: Tensor, radius: Tensor) -> FeatureBall:
        t, u = self.features(x), self.features(q)
        move = self._norm(x) * radius
        weight, reach = self.weights(_shape(x)), self._reach(self.penalty.size(t), radius, x)
        return FeatureBall(t, u, weight, radius, move, reach)

    def _bend(self, ball: FeatureBall) -> Tensor:
        """An upper bound of ‖w (φ''(t') - φ''(t)) u‖ over the ball."""
        stiff = ball.weight * self.penalty.size(ball.u)
        spread = self.penalty.potential.curvature_spread / self.smoothing * stiff
        gradual = self.penalty.lipschitz / self.smoothing**2 * stiff
        leap = self.penalty.jump(self.penalty.size(ball.t) / self.smoothing, ball.reach)
        sudden = rows.length(leap / self.smoothing * stiff)
        return torch.minimum(rows.length(spread), rows.norm_inf(gradual) * ball.move + sudden)

    def _weight_variation(self, ball: FeatureBall, x: Tensor, norm: Tensor) -> Variation:
        if not self.log_weight.requires_grad:
            return Variation.zero(x)
        penalty, shape = self.penalty, _shape(x)
        force = penalty.force(ball.t, self.smoothing)
        steep = penalty.potential.constants.scale_lipschitz
        own = self._parameter_variation(ball.weight, force, steep, ball, norm, shape)
        share = self.spreading(shape)
        return Variation(own.hessian, share * own.cross, share * own.cross_norm)

    def _smoothing_variation(self, ball: FeatureBall, x: Tensor, norm: Tensor) -> Variation:
        if not self.log_smoothing.requires_grad:
            return Variation.zero(x)
        force = self.penalty.smoothing_force(ball.t, self.smoothing)
        potential, size = self.penalty.potential, self.penalty.size(ball.t) / self.smoothing
        steep = potential.constants.scale_lipschitz
        smooth = self._parameter_variation(self.smoothing, force, steep, ball, norm, _shape(x))
        leap = ball.weight * potential.scale_jump(size, ball.reach)
        cross = (leap * self.penalty.size(ball.u)).flatten(1).sum(1)
        return smooth + Variation(torch.zeros_like(cross), cross, norm * rows.length(leap))

    def _parameter_variation(
        self,
        parameter: Tensor,
        force: Tensor,
        steep: Bound,
        ball: FeatureBall,
        norm: Tensor,
        shape: Shape,
    ) -> Variation:
        """Of B = Wᵀ diag(w force), force steep/ν-Lipschitz in t, one column a parameter."""
        stiff = ball.weight / self.smoothing * steep
        cross = rows.grouped_norm(stiff * self.penalty.size(ball.u), parameter.shape) * ball.move
        pull = ball.weight * force
        drift = norm * stiff.max() * ball.move
        reach = norm * rows.grouped_norm(self.penalty.size(pull), parameter.shape)
        if parameter.numel() == 1:
            reach = torch.minimum(reach, rows.length(self.features_adjoint(pull, shape)))
        return Variation(torch.zeros_like(cross), cross, reach + drift)


def _shape(x: Tensor) -> Shape:
    return x.shape[1], x.shape[2], x.shape[3]
