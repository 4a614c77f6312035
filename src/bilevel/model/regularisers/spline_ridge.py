"""Ridge regularisers with a spline as their profile, for one noise level or for a range of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bilevel.ground import rows
from bilevel.ground.checks import check_positive, numbers
from bilevel.ground.errors import InputError
from bilevel.model.bounds import Variation
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Units, check_learn, positive_parameter
from bilevel.model.regularisers.cascade import estimated_norm
from bilevel.model.regularisers.cascaded import CascadeBall, CascadeRegulariser
from bilevel.model.regularisers.profiles import SplineProfile
from bilevel.model.regularisers.released import read_released
from bilevel.model.sets import Box, Set
from bilevel.model.splines import OddSpline, even_knots

__all__ = ["SplineRidge"]

PARAMETERS = ("filters", "scaling", "weight", "slopes")
STEEPEST = 1e4
PLACES = 11
RANGE = 30 / 255
"""Noise levels that are provided for, at a contrast of 1."""
LEAST = 1e-5 / 30
"""Added to the level, as a part of their range."""


class SplineRidge(CascadeRegulariser):
    """A cascade of filters with a learned spline as its profile, for one noise level or a range.

    R(x) = w Σ_j σ_j⁻² Σ_i Ψ(σ_j t_ji), t = W x, Ψ' an odd linear spline with even knots.

    W is that of :class:`RidgeRegulariser`. Ψ' has n slopes c_k on [0, 1] and is constant beyond; Ψ
    is its exact integral, 0 at 0. ``weakly_convex`` keeps c_k >= -1, so that ∇²R >= -w ‖W‖²,
    otherwise c_k >= 0 and R is convex; ∇²R <= w max(c) ‖W‖². It begins as the profile of
    :class:`RidgeRegulariser` that has its kink at the first knot, at sharpness n.

    With a ``noise_level`` s the scales are σ_j = exp(q_j(s))/(s + ε), q_j piecewise linear between
    even places of [0, ``noise_range``] and constant beyond, ε = ``noise_range``/3e6. The level is
    given, not learned; ``argmin`` takes one for each row, "regulariser.noise_level" (b,) in θ.
    Error bounds of hypergradients are proved for all that is learned.

    Args:
        filters: banks (m, c, k, k), one a layer, each for the channels of the one before.
        weight: factor w [1].
        scaling: first scale σ of every channel, or one each [1/grey value]; with a noise level what
            that is multiplied by it, exp(q) [1], which may be (m, places), 11 places otherwise.
        slopes: how many slopes Ψ' has, or the first ones (n,).
        weakly_convex: let large responses cost no more.
        noise_level: standard deviation s of the noise [grey value]; no such dependence if None.
        noise_range: largest level that is provided for [grey value].
        norm: a bound of the norm of W to divide it by; a proved one if None.
        learn: names of what is learned; the rest stays as given.

    Source: Goujon, Neumayer, Unser 2024 (arXiv 2308.10542), Section 3: there Ψ' = μ φ₊ - φ₋ with
    two splines of slopes in [0, 1], which is one with slopes in [-1, μ].

    Raises:
        InputError: filters that are not a chain of odd-sided banks, slopes out of their interval,
            a noise level outside of its range, options that do not fit.

    Example:
        >>> bank = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]]]])
        >>> bounds = SplineRidge([bank], weight=1.0, slopes=20).bounds((1, 8, 8))
        >>> round(float(bounds.mu), 3), round(float(bounds.lipschitz), 3)
        (-1.0, 19.0)
    """

    slopes: nn.Parameter
    noise_level: Tensor
    log_noise_range: Tensor

    def __init__(
        self,
        filters: Sequence[Tensor],
        weight: float | None = None,
        scaling: float | Tensor | None = None,
        slopes: int | Tensor = 50,
        *,
        weakly_convex: bool = True,
        noise_level: float | None = None,
        noise_range: float | None = None,
        norm: float | None = None,
        learn: Collection[str] = PARAMETERS,
    ) -> None:
        """Banks (m, c, k, k'); w and σ, or exp(q); slopes; s and its range [grey value].

        For a contrast of 1 of the data w is 1/2, σ 20 [1/grey value], and the range 30/255 where
        None is given; exp(q) is 2.
        """
        super().__init__()
        check_learn(learn, PARAMETERS)
        banks = self._take_filters(filters, norm, learn)
        self.weakly_convex = weakly_convex
        first = _huber(slopes, weakly_convex) if isinstance(slopes, int) else slopes
        self.slopes = nn.Parameter(self._checked(first), requires_grad="slopes" in learn)
        self.knots = even_knots(1.0, len(self.slopes))
        self.noisy = noise_level is not None
        if noise_level is not None:
            self._take_noise(noise_level, noise_range)
        elif noise_range is not None:
            raise InputError("noise_range needs a noise_level", advice="give both or neither")
        self.log_weight = self.weighted(weight, 0.5, learn, degree=2)
        if scaling is None and not self.noisy:
            self.leave("log_scaling", grey=-1)
        usual = 2.0 if self.noisy else 20.0
        wide = self._widened(usual if scaling is None else scaling, len(banks[-1]))
        self.log_scaling = positive_parameter(wide, "scaling", learn)

    @staticmethod
    def load(
        path: str | Path, noise_level: float, *, learn: Collection[str] = PARAMETERS
    ) -> SplineRidge:
        """Released weights (WCRR-NN), for images in [0, 1]; noise levels up to 30/255 in that unit.

        The norm of the filters is estimated, as the authors do; bounds allow for that.

        Args:
            path: a ``.pth`` file of the authors, of which only tensors are read.
            noise_level: standard deviation of the noise [grey value].
            learn: names of what is learned.

        Raises:
            InputError: no such file, or one that holds something else; a level out of its range.
        """
        found = read_released(path)
        return SplineRidge(
            found.filters,
            1.0,
            found.scaling,
            found.slopes,
            noise_level=noise_level,
            noise_range=RANGE,
            norm=float(estimated_norm(found.filters)),
            learn=learn,
        )

    def _checked(self, slopes: Tensor) -> Tensor:
        slopes = numbers(slopes, "slopes")
        if slopes.ndim != 1:
            expected = "slopes must be a number of them or have shape (n,)"
            raise InputError(expected, given=tuple(slopes.shape))
        least, given = self._least, (float(slopes.min()), float(slopes.max()))
        if given[0] < least or given[1] > STEEPEST:
            raise InputError(f"slopes must lie in [{least:g}, {STEEPEST:g}]", given=given)
        return slopes

    @property
    def _least(self) -> float:
        return -1.0 if self.weakly_convex else 0.0

    def _take_noise(self, level: float, end: float | None) -> None:
        known = math.inf if end is None else check_positive(end, "noise_range")
        if not 0 <= level <= known or level == math.inf:
            raise InputError(f"noise_level must lie in [0, {known:g}]", given=level)
        tensor = torch.tensor(level, dtype=torch.get_default_dtype())
        self.noise_level = nn.Parameter(tensor, requires_grad=False)
        if end is None:
            self.leave("log_noise_range", grey=1)
        self.log_noise_range = positive_parameter(RANGE if end is None else end, "noise_range", ())

    def _widened(self, scaling: float | Tensor, channels: int) -> Tensor:
        """A scale for every channel, and for every place of the range of noise levels."""
        scales = numbers(scaling, "scaling")
        wide = scales[:, None] if self.noisy and scales.ndim == 1 else scales
        if wide.ndim > 1 + self.noisy or (wide.ndim and len(wide) != channels):
            expected = f"scaling must be a number or have shape ({channels},)"
            expected += f" or ({channels}, places)" if self.noisy else ""
            raise InputError(expected, given=tuple(scales.shape))
        if not self.noisy:
            return wide.expand(channels).clone()
        places = wide.shape[1] if wide.ndim and wide.shape[1] > 1 else PLACES
        return wide.expand(channels, places).clone()

    def options(self) -> dict[str, object]:
        """What builds it again; what is not learned with its value."""
        noise: dict[str, object] = {}
        if self.noisy:
            level, end = (float(p.detach()) for p in (self.noise_level, self.log_noise_range.exp()))
            noise = {"noise_level": level, "noise_range": max(level, end)}
            noise["scaling"] = self.log_scaling.detach().exp()
        slopes = self.slopes.detach().clamp(self._least, STEEPEST)
        return {
            **super().options(),
            **noise,
            "slopes": slopes,
            "weakly_convex": self.weakly_convex,
        }

    def owners(self) -> dict[str, Tensor]:
        """All four."""
        return {**super().owners(), "slopes": self.slopes}

    def sets(self) -> Mapping[str, Set]:
        """As for all, and slopes in their interval."""
        return {**super().sets(), "slopes": Box(self._least, STEEPEST)}

    def accounted(self) -> frozenset[str]:
        """All four."""
        return super().accounted() | {"slopes"}

    def broadcasts(self) -> frozenset[str]:
        """The noise level."""
        return frozenset({"noise_level"}) if self.noisy else frozenset()

    def check(self, image_shape: Shape) -> None:
        """Channels must match, and the noise level lie in its range."""
        super().check(image_shape)
        self._check_level()

    def take_units(self, units: Units) -> None:
        """The level must lie in the range that is known now.

        Raises:
            InputError: it does not.
        """
        super().take_units(units)
        self._check_level()

    def _check_level(self) -> None:
        if self.noisy and "log_noise_range" not in self.left:
            level, end = self.noise_level.detach(), float(self.log_noise_range.detach().exp())
            if not bool(((level >= 0) & (level <= end * (1 + 1e-6))).all()):
                least, most = float(level.min()), float(level.max())
                given = f"{least:g}" if least == most else f"{least:g} to {most:g}"
                advice = "give a larger noise_range"
                raise InputError(
                    f"noise_level must lie in [0, {end:g}]", given=given, advice=advice
                )

    @property
    def profile(self) -> SplineProfile:
        """The spline."""
        return SplineProfile(OddSpline(self.knots, self.slopes, 1 / len(self.knots)))

    @property
    def _shares(self) -> Tensor:
        """How much of each of the values of q counts at the noise level, (levels,) or with rows."""
        places = torch.arange(self.log_scaling.shape[1], device=self.noise_level.device)
        end = self.log_noise_range.exp()
        place = (self.noise_level / end).clamp(0, 1) * (len(places) - 1)
        return (1 - (place[..., None] - places).abs()).clamp_min(0)

    @property
    def _log_scales(self) -> Tensor:
        if not self.noisy:
            return self.log_scaling
        level = self.noise_level + LEAST * self.log_noise_range.exp()
        if level.ndim == 0:
            return self.log_scaling @ self._shares - level.log()
        shares = self._shares.flatten(1)  # (b, levels) from (b, 1, 1, 1, levels)
        return (shares @ self.log_scaling.mT)[:, :, None, None] - level.log()

    def own_variation(self, x: Tensor, ball: CascadeBall) -> list[Variation]:
        """Of slopes and scaling: q with its shares, whose norm is at most 1."""
        del x
        found: list[Variation] = []
        if self.log_scaling.requires_grad:
            scales = self.scale_variation(ball)
            share = self._shares.double().square().sum().sqrt() if self.noisy else 1.0
            found.append(Variation(scales.hessian, share * scales.cross, share * scales.cross_norm))
        if self.slopes.requires_grad:
            found.append(self._slope_variation(ball))
        return found

    def _slope_variation(self, ball: CascadeBall) -> Variation:
        """∂∇R/∂c_k = Wᵀ(w/σ) φ_k(σ t), where φ_k is how far σ t has come in the interval k.

        Each φ_k is monotone and their sum is 1-Lipschitz, so that ‖φ(r') - φ(r)‖ <= |r' - r|.
        """
        weight = self.log_weight.exp()
        force = weight / self._log_scales.exp()[:, None, None]
        cross = weight * rows.length(ball.u) * ball.move
        lengths = rows.length(force * self.profile.spline.lengths(ball.s))
        return Variation(cross * 0, cross, ball.norm * (lengths + weight * ball.move))


def _huber(intervals: int, weakly_convex: bool) -> Tensor:
    """The slopes of a Huber profile with its kink at the first knot."""
    if not 1 <= intervals <= STEEPEST:
        raise InputError("slopes must be a number of them in [1, 1e4]", given=intervals)
    slopes = torch.zeros(intervals)
    slopes[0] = intervals
    return slopes - float(weakly_convex)
