"""Grouped experts: a potential of several filter responses at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bilevel.ground import rows
from bilevel.ground.checks import check_positive, numbers
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.operators.operator import Shape
from bilevel.model.part import around, check_learn, one_or_each, positive_parameter
from bilevel.model.regularisers import groups
from bilevel.model.regularisers.cascade import analyse, checked, layer_norm, synthesise
from bilevel.model.regularisers.grouped_variation import Groups
from bilevel.model.regularisers.regulariser import Regulariser
from bilevel.model.sets import Box, L1Ball, Set, ZeroMean

__all__ = ["GroupedExperts"]

BLUNTEST = math.log(1e4)
BELOW = 0.999
"""c < 1, so that φ grows in every direction."""
PARAMETERS = ("filters", "scale", "weight", "bluntness", "mixing")


class GroupedExperts(Regulariser):
    """Fields of experts whose potentials see several filters at once.

    R(x) = w Σ_k s_k² Σ_i φ_k(u_ki/s_k),  φ_k(u) = m(u) - τ_k ‖Q_k‖² m(c Q_k u/(τ_k ‖Q_k‖²)),

    u_ki the responses of the d filters of group k at one place, m the Moreau envelope of the
    largest absolute value, c = 0.999. Small responses cost w |u|²/2, large ones little more the
    larger they are, and which of them are large together is learned in Q_k, ‖Q_k‖ its norm. The
    filters are a cascade of zero-padded convolutions, the first of mean zero, over its ``norm``;
    of its K d channels, the filters of group k are k, K + k, 2 K + k, ...

    0 <= φ. ∇²R is piecewise constant, -w c² ‖W‖²/min τ <= ∇²R <= w ‖W‖². Error bounds of
    hypergradients are proved but for learned filters. One model for several noise levels gives
    every image scales of its own, (b, K), where :func:`bilevel.argmin` takes ``theta``.

    Args:
        filters: banks (m, c, k, k'), one a layer, each for the channels of the one before.
        weight: factor w [1].
        scale: where the potential turns, s, one or one a group [grey value].
        bluntness: τ >= 1, how much later it flattens out, one or one a group [1].
        mixing: Q (K, d, d), absolute values of every row at most 1 in sum; random ones in
            [-1/2, 1/2] if None, as equal singular values have no derivative.
        group: d, responses that are seen together.
        norm: a bound of the norm of W to divide it by; a proved one if None.
        learn: names of what is learned; the rest stays as given.

    Source: Ducotterd and Unser 2025, "Multivariate fields of experts" (arXiv 2508.06490).

    Raises:
        InputError: filters that are not a chain of odd-sided banks or do not divide into groups,
            options that do not fit.

    Example:
        >>> bank = torch.tensor([[[0.0, -1.0, 1.0]], [[0.0, 0.0, 0.0]]])[:, None]
        >>> experts = GroupedExperts([bank], weight=2.0, bluntness=4.0, group=2)
        >>> bounds = experts.bounds((1, 8, 8))
        >>> round(float(bounds.lipschitz), 3), round(float(bounds.mu), 3)
        (2.0, -0.499)
    """

    filters: nn.ParameterList
    norm: Tensor

    def __init__(
        self,
        filters: Sequence[Tensor],
        weight: float | None = None,
        scale: float | Tensor | None = None,
        bluntness: float | Tensor = 12.0,
        mixing: Tensor | None = None,
        *,
        group: int = 4,
        norm: float | None = None,
        learn: Collection[str] = PARAMETERS,
    ) -> None:
        """Banks (m, c, k, k'); w, s, τ and Q; ``norm`` a proved one if None.

        For a contrast of 1 of the data w is 25 and s 0.004 where None is given.
        """
        super().__init__()
        check_learn(learn, PARAMETERS)
        banks = checked(filters)
        banks[0] = ZeroMean().project(banks[0])
        self.group, count = group, _count(banks[-1].shape[0], group)
        proved = math.prod(float(layer_norm(bank)) for bank in banks)
        if norm is not None:
            check_positive(norm, "norm")
        learned = "filters" in learn
        self.filters = nn.ParameterList(nn.Parameter(b, requires_grad=learned) for b in banks)
        self.register_buffer("norm", banks[0].new_tensor(proved if norm is None else norm))
        self.log_weight = self.weighted(weight, 25.0, learn, degree=2)
        if scale is None:
            self.leave("log_scale", grey=1)
        scales = one_or_each(0.004 if scale is None else scale, count, "scale", "group")
        self.log_scale = positive_parameter(scales, "scale", learn)
        blunt = one_or_each(bluntness, count, "bluntness", "group")
        if not bool(((blunt >= 1) & (blunt <= math.exp(BLUNTEST))).all()):
            given = float(blunt.min()), float(blunt.max())
            raise InputError("bluntness must lie in [1, 1e4]", given=given)
        self.log_bluntness = positive_parameter(blunt, "bluntness", learn)
        first = _mixing(mixing, count, group).to(banks[0].dtype)
        self.mixing = nn.Parameter(first, requires_grad="mixing" in learn)

    def options(self) -> dict[str, object]:
        """What builds it again; the values travel as parameters."""
        learned = {
            "filters": self.filters[0],
            "scale": self.log_scale,
            "weight": self.log_weight,
            "bluntness": self.log_bluntness,
            "mixing": self.mixing,
        }
        return {
            "filters": [bank.detach() for bank in self.filters],
            "group": self.group,
            "norm": float(self.norm),
            "learn": [name for name, parameter in learned.items() if parameter.requires_grad],
        }

    def sets(self) -> Mapping[str, Set]:
        """Positive scalars, τ >= 1, rows of Q in the l1 ball, first filters of mean zero."""
        return {
            "filters.0": ZeroMean(),
            "log_weight": around(self.log_weight),
            "log_scale": around(self.log_scale),
            "log_bluntness": Box(0.0, BLUNTEST),
            "mixing": L1Ball(),
        }

    def check(self, image_shape: Shape) -> None:
        """Channels must match."""
        channels = self.filters[0].shape[1]
        if channels != image_shape[0]:
            expected = f"filters of {channels} channel(s) do not fit"
            raise InputError(expected, given=f"images (c, h, w) = {image_shape}")

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        return groups.value_and_force(self._features(x), *self._maps(), *self._factors())[0]

    def grad(self, x: Tensor) -> Tensor:
        """Wᵀ w s ∇φ(W x/s)."""
        return synthesise(self._pull, groups.force(self._features(x), *self._maps()))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with W x computed once."""
        features, maps = self._features(x), self._maps()
        value, force = groups.value_and_force(features, *maps, *self._factors())
        return value, synthesise(self._pull, force)

    def hessian(self, x: Tensor) -> LinearMap:
        """Wᵀ w ∇²φ(W x/s) W, an element of the Clarke derivative."""
        maps = self._maps()
        found = groups.pieces(self._features(x), maps[0])
        return self._hessian(found, maps, self._banks(1 / self.norm), self._weighted_banks)

    def _hessian(
        self,
        found: groups.Pieces,
        maps: tuple[Tensor, Tensor],
        push: list[Tensor],
        pull: list[Tensor],
    ) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            return synthesise(pull, groups.bent(analyse(push, v), found, *maps))

        def restrict(index: Tensor) -> LinearMap:
            first, second, third, fourth = (part[index] for part in found)
            return self._hessian((first, second, third, fourth), maps, push, pull)

        return LinearMap(apply, restrict)

    def majoriser(self, x: Tensor) -> LinearMap:
        """w WᵀW: m is 1-smooth, and what is subtracted lies above its tangent."""
        push, pull = self._banks(1 / self.norm), self._weighted_banks
        return LinearMap.shared(lambda v: synthesise(pull, analyse(push, v)))

    def bounds(self, image_shape: Shape) -> Bounds:
        """-w c² ‖W‖²/min τ <= ∇²R <= w ‖W‖²."""
        del image_shape
        upper = self.log_weight.detach().double().exp() * self._norm_bound().square()
        return Bounds.of(-upper * self._steepest, upper)

    def magnitude(self, image_shape: Shape) -> Magnitude:
        """Both parts of φ, each with its own Lipschitz constant."""
        upper = self.bounds(image_shape).lipschitz * (1 + self._steepest)
        return Magnitude(upper, torch.zeros_like(upper))

    def accounted(self) -> frozenset[str]:
        """All but the filters."""
        return frozenset({"log_weight", "log_scale", "log_bluntness", "mixing"})

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """From the groups that may cross a face within the ball; unproved for learned filters."""
        with torch.no_grad():
            found = self._groups(x, radius)
            v = groups.parted(analyse(self._banks(1 / self.norm), q), self.group)
            pull = rows.length(self.grad(x))
            learned = {name: p.requires_grad for name, p in self.named_parameters()}
            return found.variation(torch.stack(v), pull, learned)

    def smoothness(self, x: Tensor, radius: Tensor) -> Smoothness:
        """Piecewise quadratic."""
        with torch.no_grad():
            found = self._groups(x, radius)
            return Smoothness.of(found.jump + found.blunt_jump, 0.0)

    def _groups(self, x: Tensor, radius: Tensor) -> Groups:
        return Groups.of(
            self._features(x),
            self._banks(1 / self.norm),
            (radius, rows.norm(x)),
            self._maps(),
            norm=self._norm_bound().to(x),
            weight=self.log_weight.exp(),
            scale=self.log_scale.exp()[:, None, None],
            blunt=self.log_bluntness.exp()[:, None, None],
            norms=square_norm(self.mixing).sqrt()[:, None, None],
        )

    def _features(self, x: Tensor) -> Tensor:
        """u/s of all groups, (b, d K, h, w)."""
        return analyse(self._banks((-self.log_scale).exp().repeat(self.group) / self.norm), x)

    def _banks(self, scale: Tensor) -> list[Tensor]:
        """Those of W times a factor, one or one a channel."""
        *first, last = self.filters
        return [*first, last * scale.expand(len(last))[:, None, None, None]]

    @property
    def _pull(self) -> list[Tensor]:
        """The banks of w s W."""
        scale = (self.log_weight + self.log_scale).exp() / self.norm
        return self._banks(scale.repeat(self.group))

    @property
    def _weighted_banks(self) -> list[Tensor]:
        """Those of w W."""
        return self._banks(self.log_weight.exp() / self.norm)

    @property
    def _reach(self) -> Tensor:
        """t = τ ‖Q‖², (K,)."""
        return self.log_bluntness.exp() * square_norm(self.mixing)

    def _maps(self) -> tuple[Tensor, Tensor]:
        """A = c Q/t and t Aᵀ = c Qᵀ, (d, d, K, 1, 1) each."""
        wide = BELOW * self.mixing.permute(1, 2, 0)
        inner = wide / self._reach
        return inner[..., None, None], wide.transpose(0, 1)[..., None, None]

    def _factors(self) -> tuple[Tensor, Tensor]:
        """w s² of m(u), and w s² t of m(A u)."""
        scale = (self.log_weight + 2 * self.log_scale).exp()
        return scale, scale * self._reach

    @property
    def _steepest(self) -> Tensor:
        """c²/min τ."""
        return BELOW**2 * (-self.log_bluntness.detach().double().min()).exp()

    def _norm_bound(self) -> Tensor:
        """A proved upper bound of ‖W‖: the product of the layers'."""
        layers = torch.stack([layer_norm(bank) for bank in self.filters])
        return layers.prod() / self.norm.double()


def square_norm(mixing: Tensor) -> Tensor:
    """‖Q_k‖², and 1e-12 where it is less: then φ is m."""
    return cast(Tensor, torch.linalg.matrix_norm(mixing, 2)).square().clamp_min(1e-12)


def _count(channels: int, group: int) -> int:
    if group < 1 or channels % group:
        what = f"{channels} channels of filters do not divide into groups"
        advice = f"give a last bank with a multiple of {group} filters, or another group"
        raise InputError(what, given=f"group = {group}", advice=advice if group > 0 else None)
    return channels // group


def _mixing(mixing: Tensor | None, count: int, group: int) -> Tensor:
    if mixing is None:
        draw = torch.rand(count, group, group, generator=generator(0, "mixing")) - 0.5
        return draw / draw.abs().sum(-1, keepdim=True).clamp_min(1.0)
    mixing = numbers(mixing, "mixing")
    if mixing.shape != (count, group, group):
        raise InputError(
            f"mixing must have shape {(count, group, group)}", given=tuple(mixing.shape)
        )
    sums = mixing.abs().sum(-1)
    if not bool((sums <= 1 + 1e-6).all()):
        advice = "divide rows by their sums of absolute values where these exceed 1"
        raise InputError(
            "rows of mixing exceed 1 in l1 norm", given=float(sums.max()), advice=advice
        )
    return mixing
