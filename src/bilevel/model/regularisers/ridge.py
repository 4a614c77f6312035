"""Ridge regularisers: convex or weakly convex Huber profiles of a normalised cascade of filters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.model.bounds import Variation
from bilevel.model.part import check_learn, one_or_each, positive_parameter
from bilevel.model.regularisers.cascade import random_cascade
from bilevel.model.regularisers.cascaded import CascadeBall, CascadeRegulariser
from bilevel.model.regularisers.profiles import HuberProfile
from bilevel.model.sets import Box, Set

__all__ = ["RidgeRegulariser"]

SHARPEST = math.log(1e4)
PARAMETERS = ("filters", "scaling", "weight", "sharpness")


class RidgeRegulariser(CascadeRegulariser):
    """A cascade of filters with a learned profile: convex, or weakly convex.

    R(x) = w Σ_j σ_j⁻² Σ_i [ψ(b σ_j t_ji)/b - ρ ψ(σ_j t_ji)], t = W x, ψ the Huber function.

    W is a cascade of zero-padded convolutions, the first of mean zero, over its ``norm``. Without
    weak convexity ρ = 0 and R is convex; with it ρ = 1 and ∇²R >= -w ‖W‖². ∇²R is piecewise
    constant, at most w (b - ρ) ‖W‖².

    Error bounds of hypergradients are proved for all four parameters; those of filters grow with
    the product of the layers' norms, so that they are proved only where solutions are close.

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
        >>> import torch
        >>> bank = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]]]])
        >>> ridge = RidgeRegulariser([bank], weight=1.0, sharpness=10.0)
        >>> round(float(ridge.bounds((1, 8, 8)).lipschitz), 3)
        10.0
    """

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
        banks = self._take_filters(filters, norm, learn)
        if not 1 <= sharpness <= math.exp(SHARPEST):
            raise InputError("sharpness must lie in [1, 1e4]", given=sharpness)
        channels = banks[-1].shape[0]
        if scaling is None:
            self.leave("log_scaling", grey=-1)
        wide = one_or_each(1.0 if scaling is None else scaling, channels, "scaling", "channel")
        self.weakly_convex = weakly_convex
        self.log_weight = self.weighted(weight, 1.0, learn, degree=2)
        self.log_sharpness = positive_parameter(sharpness, "sharpness", learn)
        self.log_scaling = positive_parameter(wide, "scaling", learn)

    @staticmethod
    def random(
        channels: Sequence[int] = (4, 8, 64),
        size: int = 5,
        *,
        image_channels: int = 1,
        seed: int = 0,
        weakly_convex: bool = True,
        learn: Collection[str] = PARAMETERS,
    ) -> RidgeRegulariser:
        """Filters as of :func:`random_cascade`, over a proved bound of their norm.

        For a contrast of 1 of the data the scales are 2/0.1 and the weight 1; the sharpness is e⁴.

        Source: the start of Hertrich et al. 2025.

        Example:
            >>> ridge = RidgeRegulariser.random((4, 8), 3)
            >>> sum(bank.numel() for bank in ridge.filters), round(ridge.log_sharpness.item())
            (324, 4)
        """
        banks = random_cascade(channels, size, image_channels=image_channels, seed=seed)
        sharp, first = math.exp(4), 2 / 0.1
        made = RidgeRegulariser(banks, None, sharp, first, weakly_convex=weakly_convex, learn=learn)
        made.leave("log_scaling", grey=-1)
        return made

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

    def owners(self) -> dict[str, Tensor]:
        """All four."""
        return {**super().owners(), "sharpness": self.log_sharpness}

    def options(self) -> dict[str, object]:
        """What builds it again."""
        return {**super().options(), "weakly_convex": self.weakly_convex}

    def sets(self) -> Mapping[str, Set]:
        """As for all, and a sharpness of at least 1."""
        return {**super().sets(), "log_sharpness": Box(0.0, SHARPEST)}

    def accounted(self) -> frozenset[str]:
        """All four."""
        return super().accounted() | {"log_sharpness"}

    @property
    def profile(self) -> HuberProfile:
        """Of b and ρ."""
        return HuberProfile(self.log_sharpness, self.weakly_convex)

    @property
    def _log_scales(self) -> Tensor:
        return self.log_scaling

    @property
    def _log_stretch(self) -> Tensor:
        return self.log_sharpness

    def own_variation(self, x: Tensor, ball: CascadeBall) -> list[Variation]:
        """Of sharpness and scaling."""
        del x
        scaled = self.log_scaling.requires_grad
        return [
            self._sharpness_variation(ball),
            self.scale_variation(ball) if scaled else Variation.zero(ball.s),
        ]

    def _sharpness_variation(self, ball: CascadeBall) -> Variation:
        """∂∇R/∂log b is w b-Lipschitz between kinks."""
        if not self.log_sharpness.requires_grad:
            return Variation.zero(ball.s)
        force = self.log_weight.exp() / self.log_scaling.exp()[:, None, None]
        slope = force * ball.s * (ball.s.abs() <= 1)
        stiff = self.log_weight.exp() * self.log_sharpness.exp()
        leap = force * self.profile.crossing(ball.s, ball.reach)[0]
        cross = stiff * rows.length(ball.u) * ball.move + (leap * ball.u.abs()).flatten(1).sum(1)
        reach = rows.length(slope) + stiff * ball.move + rows.length(leap)
        return Variation(cross * 0, cross, ball.norm * reach)
