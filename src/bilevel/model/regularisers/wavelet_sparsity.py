"""Few wavelet coefficients: smoothed, or their absolute values themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from torch import Tensor

from bilevel.ground.checks import check_count
from bilevel.ground.errors import InputError
from bilevel.model.group_norm import GroupNorm
from bilevel.model.operators.operator import Shape
from bilevel.model.operators.wavelet_filters import Wavelet
from bilevel.model.operators.wavelets import Wavelets, check_levels
from bilevel.model.part import around, check_learn, one_or_each
from bilevel.model.penalties import RadialPenalty, SeparablePenalty
from bilevel.model.potentials import potential_of
from bilevel.model.regularisers.filtered import FilteredRegulariser
from bilevel.model.regularisers.nonsmooth import NonSmoothRegulariser
from bilevel.model.sets import Set

__all__ = ["ExactWaveletSparsity", "WaveletSparsity"]

PARAMETERS = ("weight", "smoothing")


class WaveletSparsity(FilteredRegulariser):
    """Few wavelet coefficients: edges at several scales, smoothed.

    R(x) = Σ_b w_b Σ_i φ_ν((W x)_bi), W the details of a wavelet transform with a periodic boundary:
    the approximation is not penalised. Bands b are three a level, finest first: differences of
    rows, of columns, of both. WᵀW <= I, hence ∇²R <= max(w)/ν. Undecimated wavelets treat all
    shifts of an image alike, and take images of any size; decimated ones are orthogonal.

    Args:
        weight: factor of every band, or one each [1].
        smoothing: where the potential turns from quadratic to linear, ν [grey value].
        wavelet: which family.
        levels: scales, each twice as coarse.
        decimated: keep every 2^l-th coefficient of level l.
        coupled: penalise the coefficients of all channels together.
        potential: φ.
        exponent: p of the potential "power", in (0, 2]; 1/2 if None [1].
        learn: names of what is learned; the rest stays as given.

    Source: Elad, Milanfar, Rubinstein 2007, "Analysis versus synthesis in signal priors".

    Raises:
        InputError: weights that do not fit, unknown names, levels out of range; by ``check``,
            images that decimated wavelets cannot halve so often.

    Example:
        >>> import torch
        >>> sparse = WaveletSparsity(0.1, 0.01, wavelet="daubechies-2", levels=2)
        >>> sparse(torch.ones(1, 1, 9, 7)).item() < 1e-6
        True
        >>> round(float(sparse.bounds((1, 9, 7)).lipschitz), 3)
        10.0
    """

    def __init__(
        self,
        weight: float | Tensor | None = None,
        smoothing: float | None = None,
        *,
        wavelet: Wavelet = "haar",
        levels: int = 3,
        decimated: bool = False,
        coupled: bool = False,
        potential: Literal[
            "charbonnier", "huber", "log-cosh", "power", "student-t"
        ] = "charbonnier",
        exponent: float | None = None,
        learn: Collection[str] = ("weight",),
    ) -> None:
        """Weight: one or one a band; ν [grey value].

        For a contrast of 1 of the data the weight is 0.05 and ν 0.01 where None is given.
        """
        super().__init__()
        check_learn(learn, PARAMETERS)
        penalty = RadialPenalty if coupled else SeparablePenalty
        self.penalty = penalty(potential_of(potential, exponent))
        self.coupled, self.potential, self.exponent = coupled, potential, exponent
        self.transform = Wavelets(wavelet, levels, decimated=decimated, approximation=False)
        each = _each(0.05 if weight is None else weight, levels)
        self.log_weight = self.weighted(None if weight is None else each, each, learn)
        self.log_smoothing = self.smoothed(smoothing, 0.01, learn)

    def options(self) -> dict[str, object]:
        """What builds it again; weights and smoothing travel as parameters."""
        return {
            **_transform_options(self.transform),
            "coupled": self.coupled,
            "potential": self.potential,
            "exponent": self.exponent,
            "learn": [n for n in PARAMETERS if getattr(self, f"log_{n}").requires_grad],
        }

    def check(self, image_shape: Shape) -> None:
        """Decimated wavelets need sides that they can halve."""
        self.transform.data_shape(image_shape)

    @property
    def weight(self) -> Tensor:
        """Of every channel of coefficients, (m, 1, 1)."""
        return _wide(self.log_weight, self.transform)

    def features(self, x: Tensor) -> Tensor:
        """W x: (b, c, h, w) -> (b, c, m, h', w')."""
        return self.transform(x).unflatten(1, (x.shape[1], -1))

    def features_adjoint(self, p: Tensor, image_shape: Shape) -> Tensor:
        """Wᵀ p."""
        del image_shape
        return self.transform.adjoint(p.flatten(1, 2))

    def gram_bound(self, scale: Tensor, image_shape: Shape) -> Tensor:
        """max(scale): WᵀW <= I."""
        return scale.detach().max().double() * self.transform.gram_bounds(image_shape).upper

    def feature_norm(self) -> Tensor:
        """1: no row of W is longer than ‖W‖."""
        return self.log_weight.new_ones(()).double()

    def spreading(self, image_shape: Shape) -> float:
        """The root of how many channels share a weight: 4^(L - 1) in the finest band."""
        del image_shape
        return 2.0 ** (self.transform.levels - 1) if self.transform.decimated else 1.0


class ExactWaveletSparsity(NonSmoothRegulariser):
    """Few wavelet coefficients: their absolute values themselves.

    R(x) = Σ_b w_b Σ_i |(W x)_bi|, W and the bands b as in :class:`WaveletSparsity`.

    Args:
        weight: factor of every band, or one each [1].
        wavelet: which family.
        levels: scales, each twice as coarse.
        decimated: keep every 2^l-th coefficient of level l.
        channels: c of the images.
        coupled: penalise the length of the coefficients of all channels.
        learn: names of what is learned; the rest stays as given.

    Source: Elad, Milanfar, Rubinstein 2007, "Analysis versus synthesis in signal priors".

    Raises:
        InputError: weights that do not fit, unknown names, levels out of range; by ``check``,
            other channels, or images that decimated wavelets cannot halve so often.

    Example:
        >>> import torch
        >>> step = torch.tensor([0.0, 1.0]).expand(1, 1, 2, 2)
        >>> round(ExactWaveletSparsity(0.5, levels=1, decimated=True)(step).item(), 6)
        0.5
    """

    log_weight: Tensor

    def __init__(
        self,
        weight: float | Tensor | None = None,
        *,
        wavelet: Wavelet = "haar",
        levels: int = 3,
        decimated: bool = False,
        channels: int = 1,
        coupled: bool = False,
        learn: Collection[str] = ("weight",),
    ) -> None:
        """Weight: one or one a band, 0.05 for a contrast of 1 if None."""
        super().__init__()
        check_learn(learn, ("weight",))
        check_count(channels, "channels")
        self.channels, self.coupled = channels, coupled
        self.transform = Wavelets(wavelet, levels, decimated=decimated, approximation=False)
        each = _each(0.05 if weight is None else weight, levels)
        self.log_weight = self.weighted(None if weight is None else each, each, learn)

    def options(self) -> dict[str, object]:
        """What builds it again; the weights travel as parameters."""
        return {
            **_transform_options(self.transform),
            "channels": self.channels,
            "coupled": self.coupled,
            "learn": ("weight",) if self.log_weight.requires_grad else (),
        }

    def sets(self) -> Mapping[str, Set]:
        """Positive weights."""
        return {"log_weight": around(self.log_weight)}

    def check(self, image_shape: Shape) -> None:
        """Channels must match, and decimated wavelets be able to halve the sides."""
        if image_shape[0] != self.channels:
            what = f"wavelets of {self.channels} channel(s) do not fit"
            raise InputError(what, given=f"images (c, h, w) = {image_shape}", advice="set channels")
        self.transform.data_shape(image_shape)

    def term(self) -> GroupNorm:
        """GroupNorm of the coefficients."""
        weight = _wide(self.log_weight, self.transform)
        if self.coupled:
            return GroupNorm(self.transform, weight, group=self.channels)
        return GroupNorm(self.transform, weight.repeat(self.channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """R(x): (b, c, h, w) -> (b,)."""
        term = self.term()
        return term.value(term.forward(x))


def _each(weight: float | Tensor, levels: int) -> Tensor:
    """One weight a band."""
    return one_or_each(weight, 3 * check_levels(levels), "weight", "band")


def _wide(log_weight: Tensor, transform: Wavelets) -> Tensor:
    """Of every channel of coefficients of one channel of the image, (m, 1, 1)."""
    return log_weight.exp()[transform.bands.to(log_weight.device)][:, None, None]


def _transform_options(transform: Wavelets) -> dict[str, object]:
    options = transform.options()
    return {name: options[name] for name in ("wavelet", "levels", "decimated")}
