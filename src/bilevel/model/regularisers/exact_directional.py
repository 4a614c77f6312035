"""Directional total variation itself, without smoothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from bilevel.ground.errors import InputError
from bilevel.model.directions import check_exponent, check_maps, check_sizes, direction
from bilevel.model.group_norm import GroupNorm
from bilevel.model.group_power import GroupPower
from bilevel.model.metrics import Metric
from bilevel.model.operators import Differences
from bilevel.model.operators.operator import Interval, Shape
from bilevel.model.part import around, check_learn, positive_parameter
from bilevel.model.regularisers.directional import STEEPEST
from bilevel.model.regularisers.nonsmooth import NonSmoothRegulariser
from bilevel.model.sets import Box, Set

__all__ = ["ExactDirectionalTV"]


class ExactDirectionalTV(NonSmoothRegulariser):
    """Directional total variation itself, without smoothing: edges stay sharp.

    R(x) = Σ_i w_i s^(1 - p_i) (g_iᵀ M_i g_i)^(p_i/2) with g, M and s as in
    :class:`DirectionalTV`, det M = 1: DTV_p^sv of Calatroni, Lanza, Pragliola and Sgallari 2019
    (arXiv 1904.01799). For p = 1 it is a norm of M^(1/2) g, for PDHG and for learning; for p > 1
    PDHG or ADMM minimise it with a proved gap; where some p < 1 it is not convex, ADMM is for it,
    and nothing is proved. Exponents are not learned.

    Args:
        weight: factor w, one or a map (h, w) [1].
        exponent: p in [0.3, 2], one or a map (h, w) [1].
        angle: from the rows' direction towards greater row numbers, one or a map (h, w) [degree].
        anisotropy: in [1, 50], one or a map (h, w) [1].
        scale: the length of a gradient at which every exponent costs the same [grey value].
        learn: names of what is learned, where p = 1; ``direction`` is angle and anisotropy.

    Raises:
        InputError: a weight or scale that is not positive, an exponent or an anisotropy out of
            range, maps of different sizes, an unknown name in ``learn``, a direction to be
            learned though p is not 1.

    Example:
        >>> stripes = torch.arange(8.0).remainder(2).expand(1, 1, 8, 8)
        >>> r = ExactDirectionalTV(1.0, angle=90, anisotropy=16)
        >>> round(r(stripes).item(), 3)
        28.0
    """

    log_weight: Tensor
    log_scale: Tensor
    maps: ClassVar[frozenset[str]] = frozenset({"log_weight"})

    def __init__(
        self,
        weight: float | Tensor | None = None,
        exponent: float | Tensor = 1.0,
        angle: float | Tensor = 0.0,
        anisotropy: float | Tensor = 1.0,
        *,
        scale: float | None = None,
        learn: Collection[str] = (),
    ) -> None:
        """Weight 0.05 and scale 1 for a contrast of 1 where None is given."""
        super().__init__()
        check_learn(learn, ("weight", "direction"))
        self.log_weight = self.weighted(weight, 0.05, learn)
        if scale is None:
            self.leave("log_scale", grey=1)
        self.log_scale = positive_parameter(1.0 if scale is None else scale, "scale", ())
        self.exponent = nn.Parameter(check_exponent(exponent), requires_grad=False)
        turned = direction(angle, anisotropy)
        self.cosine, self.sine = (nn.Parameter(v, "direction" in learn) for v in turned)
        check_maps(self._fields())
        if learn and not self.norm:
            what = f"{', '.join(sorted(learn))} cannot be learned where exponents are not 1"
            raise InputError(what, advice="learn with DirectionalTV, which is smooth")

    @property
    def norm(self) -> bool:
        """Whether all exponents are 1."""
        return bool((self.exponent == 1).all())

    def _fields(self) -> dict[str, Tensor]:
        return {k: getattr(self, k) for k in ("log_weight", "exponent", "cosine", "sine")}

    def sets(self) -> Mapping[str, Set]:
        """Positive weights, an anisotropy of 50 along the axes and diagonals."""
        turned = Box(-STEEPEST, STEEPEST)
        return {"log_weight": around(self.log_weight), "cosine": turned, "sine": turned}

    def options(self) -> dict[str, object]:
        """What builds it again; maps keep their shape, the values travel as parameters."""
        given = {"weight": self.log_weight, "direction": self.cosine}
        return {
            "weight": self.log_weight.detach().exp(),
            "exponent": self.exponent.detach().clone(),
            "angle": torch.zeros_like(self.cosine.detach()),
            "scale": self.log_scale.exp().item(),
            "learn": [name for name, parameter in given.items() if parameter.requires_grad],
        }

    def check(self, image_shape: Shape) -> None:
        """Maps must have the size of the image."""
        check_sizes(self._fields(), image_shape)

    def term(self) -> GroupNorm:
        """Of the differences: a norm of M^(1/2) D x where p = 1, else powers of D x."""
        metric = Metric(torch.zeros_like(self.cosine), self.cosine, self.sine)
        weight = self.log_weight.exp()
        if self.norm:
            return GroupNorm(_Stretched(metric.power(0.5)), weight, group=2)
        weight = weight * ((1 - self.exponent) * self.log_scale).exp()
        return GroupPower(Differences(), weight, exponent=self.exponent, metric=metric)

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        term = self.term()
        return term.value(term.forward(x))

    def widened(self, y: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Any interval where no pixel has an anisotropy."""
        if bool((self.cosine == 0).all()) and bool((self.sine == 0).all()):
            return lower, upper
        return super().widened(y, lower, upper)


class _Stretched(Differences):
    """B D x, B a symmetric matrix at every pixel, for (right, down)."""

    pure = False
    faithful = False

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.first, self.mixed, self.second = metric.entries()
        self.largest = metric.largest()

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, 2 c, h, w)."""
        return self._turned(super().forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """(b, 2 c, h, w) -> (b, c, h, w)."""
        return super().adjoint(self._turned(y))

    def _turned(self, t: Tensor) -> Tensor:
        down, right = t.chunk(2, 1)
        return torch.cat(
            [self.mixed * right + self.second * down, self.first * right + self.mixed * down], 1
        )

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """‖D‖² times the square of the largest eigenvalue of B."""
        most = float(self.largest.detach().double().square().max())
        return Interval(0.0, super().gram_bounds(image_shape).upper * most * (1 + 1e-6))

    @property
    def roundings(self) -> float:
        """Of the differences, and of the products."""
        return 6.0
