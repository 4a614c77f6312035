"""Ridge regularisers: convex or weakly convex profiles of a normalised cascade of filters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import pad

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.fused import fused
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Smoothness, Variation
from bilevel.model.operators.operator import Shape
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.preconditioner import Stencil
from bilevel.model.regularisers.cascade import analyse, checked, layer_norm, row_norms, synthesise
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.sets import Box, Set, ZeroMean

__all__ = ["RidgeRegulariser"]

SHARPEST = math.log(1e4)
PARAMETERS = ("filters", "scaling", "weight", "sharpness")


@dataclass(frozen=True)
class _Ball:
    """What ‖x' - x‖ <= radius means for s = b σ W x and u = W q.

    ``move`` >= ‖W(x' - x)‖; ``sharp`` and ``blunt`` are 1 where |s| may cross 1 and b.
    """

    s: Tensor
    u: Tensor
    norm: Tensor
    move: Tensor
    sharp: Tensor
    blunt: Tensor


class RidgeRegulariser(Regulariser):
    """A cascade of filters with a learned profile: convex, or weakly convex.

    R(x) = w Σ_j σ_j⁻² Σ_i [ψ(b σ_j t_ji)/b - ρ ψ(σ_j t_ji)], t = W x, ψ the Huber function.

    W is a cascade of zero-padded convolutions, the first of mean zero, over its ``norm``. Without
    weak convexity ρ = 0 and R is convex; with it ρ = 1 and ∇²R >= -w ‖W‖². ∇²R is piecewise
    constant, at most w (b - ρ) ‖W‖².

    Error bounds of hypergradients are proved for weight, sharpness and scaling; learned filters
    have none.

    Args:
        filters: banks (m, c, k, k), one a layer, each for the channels of the one before.
        weight: factor w [1].
        sharpness: b >= 1, how sharply the profile turns at 0.
        scaling: σ, first scale of every channel, or one each.
        weakly_convex: let large responses cost no more.
        norm: a bound of the norm of W to divide it by; a proved one if None.
        learn: names of what is learned; the rest stays as given.

    Source: Goujon, Neumayer, Unser 2024 (arXiv 2308.10542); this profile and cascade: Hertrich
    et al. 2025.

    Raises:
        InputError: filters that are not a chain of odd-sided banks, options that do not fit.

    Example:
        >>> bank = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]]]])
        >>> ridge = RidgeRegulariser([bank], weight=1.0, sharpness=10.0)
        >>> round(float(ridge.bounds((1, 8, 8)).lipschitz), 3)
        10.0
    """

    filters: nn.ParameterList
    norm: Tensor

    def __init__(
        self,
        filters: Sequence[Tensor],
        weight: float | None = None,
        sharpness: float = 100.0,
        scaling: float | Tensor | None = None,
        *,
        weakly_convex: bool = False,
        norm: float | None = None,
        learn: Collection[str] = PARAMETERS,
    ) -> None:
        """Banks (m, c, k, k'); w, b > 1 and σ, one a channel; ``norm`` a proved one if None.

        For a contrast of 1 of the data w and σ [1/grey value] are 1 where None is given.
        """
        super().__init__()
        check_learn(learn, PARAMETERS)
        banks = checked(filters)
        banks[0] = ZeroMean().project(banks[0])
        proved = math.prod(float(layer_norm(bank)) for bank in banks)
        if norm is not None:
            check_positive(norm, "norm")
        if not 1 <= sharpness <= math.exp(SHARPEST):
            raise InputError("sharpness must lie in [1, 1e4]", given=sharpness)
        channels = banks[-1].shape[0]
        if scaling is None:
            self.leave("log_scaling", grey=-1)
        scales = torch.as_tensor(1.0 if scaling is None else scaling, dtype=banks[0].dtype)
        if scales.ndim > 1 or (scales.ndim == 1 and len(scales) != channels):
            expected = f"scaling must be a number or have shape ({channels},)"
            raise InputError(expected, given=tuple(scales.shape))
        self.weakly_convex = weakly_convex
        learned = "filters" in learn
        self.filters = nn.ParameterList(nn.Parameter(b, requires_grad=learned) for b in banks)
        self.register_buffer("norm", banks[0].new_tensor(proved if norm is None else norm))
        self.log_weight = self.weighted(weight, 1.0, learn, degree=2)
        self.log_sharpness = positive_parameter(sharpness, "sharpness", learn)
        wide = scales.expand(channels).clone()
        self.log_scaling = positive_parameter(wide, "scaling", learn)

    @staticmethod
    def load(
        path: str | Path, *, weakly_convex: bool, learn: Collection[str] = PARAMETERS
    ) -> RidgeRegulariser:
        """Weights of Hertrich et al. 2025 in safetensors; the file does not say which kind it is.

        It holds ``filters_0``, ``filters_1``, ..., ``cascade_norm``, ``log_scaling`` (one a
        channel), ``log_scale``, ``alpha`` (log weight) and ``beta`` (log sharpness).

        Raises:
            InputError: no such file, or one that lacks one of these tensors.
        """
        if not Path(path).is_file():
            raise InputError(f"there is no file '{path}'")
        try:
            saved: dict[str, Tensor] = load(Path(path).read_bytes())
            depth = sum(name.removeprefix("filters_").isdigit() for name in saved)
            return RidgeRegulariser(
                [saved[f"filters_{k}"] for k in range(depth)],
                weight=float(saved["alpha"].exp()),
                sharpness=float(saved["beta"].exp()),
                scaling=(saved["log_scaling"] + saved["log_scale"]).exp(),
                weakly_convex=weakly_convex,
                norm=float(saved["cascade_norm"]),
                learn=learn,
            )
        except (SafetensorError, KeyError) as error:
            raise InputError(f"'{path}' holds no ridge regulariser: {error}") from error

    def options(self) -> dict[str, object]:
        """What builds it again; the values travel as parameters."""
        learned = {
            "filters": self.filters[0],
            "scaling": self.log_scaling,
            "weight": self.log_weight,
            "sharpness": self.log_sharpness,
        }
        return {
            "filters": [bank.detach() for bank in self.filters],
            "weakly_convex": self.weakly_convex,
            "norm": float(self.norm),
            "learn": [name for name, parameter in learned.items() if parameter.requires_grad],
        }

    def sets(self) -> Mapping[str, Set]:
        """Positive scalars, a sharpness of at least 1, first filters of mean zero."""
        return {
            "filters.0": ZeroMean(),
            "log_weight": around(self.log_weight),
            "log_scaling": around(self.log_scaling),
            "log_sharpness": Box(0.0, SHARPEST),
        }

    def check(self, image_shape: Shape) -> None:
        """Channels must match."""
        channels = self.filters[0].shape[1]
        if channels != image_shape[0]:
            expected = f"filters of {channels} channel(s) do not fit"
            raise InputError(expected, given=f"images (c, h, w) = {image_shape}")

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        return _value_and_force(self._features(x), self._blunt, self._scales)[0]

    def grad(self, x: Tensor) -> Tensor:
        """Wᵀ(w/σ) [clip(b σ t) - ρ clip(σ t)], clip to [-1, 1]."""
        return synthesise(self._pull, _force(self._features(x), self._blunt))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with W x computed once."""
        value, force = _value_and_force(self._features(x), self._blunt, self._scales)
        return value, synthesise(self._pull, force)

    def hessian(self, x: Tensor) -> LinearMap:
        """Wᵀ w [b 1(|b σ t| <= 1) - ρ 1(|σ t| <= 1)] W, an element of the Clarke derivative."""
        return self._hessian(self._curvature(self._features(x)), self._push, self._pull)

    def majoriser(self, x: Tensor) -> LinearMap:
        """Wᵀ w b diag(ψ'(s)/s) W; the concave -ρ ψ(σ t) lies below its tangent."""
        return self._hessian(self._majorising_weights(x), self._push, self._pull)

    def _majorising_weights(self, x: Tensor) -> Tensor:
        return self._features(x).abs().clamp_min(1.0).reciprocal()

    def stencils(self, x: Tensor) -> list[Stencil]:
        """The majoriser as one layer of filters; right where the image's border is far."""
        *first, last = self.filters
        scale = (0.5 * (self.log_weight + self.log_sharpness)).exp() / self.norm
        sides = [1 + sum(bank.shape[axis] - 1 for bank in self.filters) for axis in (2, 3)]
        pixels = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[:, :, None, None]
        border = sides[1] // 2, sides[1] // 2, sides[0] // 2, sides[0] // 2
        response = analyse([*first, scale * last], pad(pixels, border))
        return [Stencil(response.transpose(0, 1).flip(2, 3), self._majorising_weights(x))]

    def _hessian(self, curve: Tensor, push: list[Tensor], pull: list[Tensor]) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            return synthesise(pull, analyse(push, v).mul_(curve))

        return LinearMap(apply, lambda index: self._hessian(curve[index], push, pull))

    @property
    def _push(self) -> list[Tensor]:
        """The banks of b σ W."""
        *first, last = self.filters
        return [*first, last * (self._scale / self.norm)[:, None, None, None]]

    @property
    def _pull(self) -> list[Tensor]:
        """The banks of (w/σ) W."""
        *first, last = self.filters
        scale = (self.log_weight - self.log_scaling).exp() / self.norm
        return [*first, last * scale[:, None, None, None]]

    def _features(self, x: Tensor) -> Tensor:
        """s = b σ W x."""
        return analyse(self._push, x)

    def _curvature(self, s: Tensor) -> Tensor:
        """1(|s| <= 1) - ρ/b 1(|s| <= b)."""
        size = s.abs()
        curve = (size <= 1).to(s.dtype)
        if self._blunt is not None:
            curve = curve - self._blunt * (size * self._blunt <= 1).to(s.dtype)
        return curve

    @property
    def _blunt(self) -> Tensor | None:
        """1/b where the profile is weakly convex."""
        return (-self.log_sharpness).exp() if self.weakly_convex else None

    @property
    def _scales(self) -> Tensor:
        """w/b σ_j⁻², what Σ_i ψ(s_ji) - ρ b ψ(s_ji/b) is multiplied by."""
        return (self.log_weight - self.log_sharpness - 2 * self.log_scaling).exp()

    def bounds(self, image_shape: Shape) -> Bounds:
        """-ρ w ‖W‖² <= ∇²R <= w (b - ρ) ‖W‖²."""
        del image_shape
        weight, sharp = self.log_weight.detach().double().exp(), self._sharp
        square, rho = self._norm_bound().square(), float(self.weakly_convex)
        return Bounds.of(-rho * weight * square, weight * (sharp - rho) * square)

    def accounted(self) -> frozenset[str]:
        """All but the filters."""
        return frozenset({"log_weight", "log_sharpness", "log_scaling"})

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """From the features that may cross a kink within the ball; unproved for learned filters.

        With u = W q and t = W x, crossing |b σ t| = 1 changes the curvature by w b, crossing
        |σ t| = 1 by ρ w; ∂∇R/∂log σ is constant between kinks, ∂∇R/∂log b is w b-Lipschitz.
        """
        with torch.no_grad():
            ball = self._ball(x, q, radius)
            weight, rho = self.log_weight.exp(), float(self.weakly_convex)
            leap = ball.sharp * self._b + ball.blunt * rho
            bend = weight * rows.length(leap * ball.u)
            if self.filters[0].requires_grad:
                return replace(Variation.unknown(x), hessian=(ball.norm * bend).double())
            parts = [
                self._weight_variation(x, ball),
                self._sharpness_variation(ball),
                self._scaling_variation(ball),
            ]
            cross = torch.stack([p.cross for p in parts]).square().sum(0).sqrt()
            cross_norm = torch.stack([p.cross_norm for p in parts]).square().sum(0).sqrt()
            return Variation((ball.norm * bend).double(), cross.double(), cross_norm.double())

    def _ball(self, x: Tensor, q: Tensor, radius: Tensor) -> _Ball:
        banks, norm = list(self.filters), self._norm_bound().to(x)
        s, u = self._features(x), analyse(banks, q) / self.norm
        sharp, blunt = self._crossing(s, radius, x)
        return _Ball(s, u, norm, norm * radius.to(x), sharp.to(x.dtype), blunt.to(x.dtype))

    def _crossing(self, s: Tensor, radius: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where |s| may cross 1 and b within the ball; rounding counted in."""
        rowwise = row_norms(self._push, x.shape[2], x.shape[3]).to(x)
        allowance = 8 * torch.finfo(x.dtype).eps * rows.norm(x)
        reach = rows.expand(radius.to(x) + allowance, s) * rowwise
        size = s.abs()
        sharp, blunt = (size - 1).abs() <= reach, (size - self._b).abs() <= reach
        return sharp, blunt & self.weakly_convex

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Piecewise quadratic."""
        with torch.no_grad():
            sharp, blunt = self._crossing(self._features(x), radius, x)
            return Smoothness.of(sharp | blunt, 0.0)

    def _weight_variation(self, x: Tensor, ball: _Ball) -> Variation:
        if not self.log_weight.requires_grad:
            return Variation.zero(x)
        stiff = self.log_weight.exp() * self._b.clamp_min(1.0)
        cross = stiff * rows.length(ball.u) * ball.move
        return Variation(
            cross * 0, cross, rows.length(self.grad(x)) + stiff * ball.norm * ball.move
        )

    def _sharpness_variation(self, ball: _Ball) -> Variation:
        if not self.log_sharpness.requires_grad:
            return Variation.zero(ball.s)
        force = self.log_weight.exp() / self._sigma
        slope = force * ball.s * (ball.s.abs() <= 1)
        stiff = self.log_weight.exp() * self._b
        leap = force * ball.sharp
        cross = stiff * rows.length(ball.u) * ball.move + (leap * ball.u.abs()).flatten(1).sum(1)
        reach = rows.length(slope) + stiff * ball.move + rows.length(leap)
        return Variation(cross * 0, cross, ball.norm * reach)

    def _scaling_variation(self, ball: _Ball) -> Variation:
        if not self.log_scaling.requires_grad:
            return Variation.zero(ball.s)
        force, rho = self.log_weight.exp() / self._sigma, float(self.weakly_convex)
        size = ball.s.abs()
        level = force * ((size > 1).to(size) - rho * (size > self._b).to(size))
        leap = force * (ball.sharp + rho * ball.blunt)
        cross = (leap * ball.u.abs()).sum((2, 3)).square().sum(1).sqrt()
        reach = (level.square().sum((2, 3)).sqrt() + leap.square().sum((2, 3)).sqrt()).amax(1)
        return Variation(cross * 0, cross, ball.norm * reach)

    @property
    def _b(self) -> Tensor:
        """b."""
        return self.log_sharpness.exp()

    @property
    def _sigma(self) -> Tensor:
        """σ, (m, 1, 1)."""
        return self.log_scaling.exp()[:, None, None]

    @property
    def _scale(self) -> Tensor:
        """b σ, (m,)."""
        return (self.log_sharpness + self.log_scaling).exp()

    @property
    def _sharp(self) -> Tensor:
        """b in float64."""
        return self.log_sharpness.detach().double().exp()

    def _norm_bound(self) -> Tensor:
        """A proved upper bound of ‖W‖: the product of the layers'."""
        layers = torch.stack([layer_norm(bank) for bank in self.filters])
        return layers.prod() / self.norm.double()


@fused
def _force(s: Tensor, blunt: Tensor | None) -> Tensor:
    """clip(s) - ρ clip(s/b)."""
    force = s.clamp(-1, 1)
    return force if blunt is None else force - (s * blunt).clamp(-1, 1)


@fused
def _value_and_force(s: Tensor, blunt: Tensor | None, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Σ scale (ψ(s) - ρ b ψ(s/b)), (b,), and the force; ψ(s) = p (s - p/2) for p = clip(s)."""
    sharp = s.clamp(-1, 1)
    penalty = torch.sub(s, sharp, alpha=0.5) * sharp
    if blunt is None:
        return _weighed(penalty, scales), sharp
    flat = (s * blunt).clamp(-1, 1)
    penalty = penalty - (s - flat / (2 * blunt)) * flat
    return _weighed(penalty, scales), sharp - flat


def _weighed(penalty: Tensor, scales: Tensor) -> Tensor:
    """Σ_j scale_j Σ_i penalty_ji, as a product with channels last, their order in memory."""
    return (penalty.permute(0, 2, 3, 1) @ scales).flatten(1).sum(1)
