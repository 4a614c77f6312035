"""Input-convex networks of two layers, closed form, and the difference of two."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds
from bilevel.model.networks.network import LEARNED, NetworkRegulariser
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Part, around
from bilevel.model.regularisers.cascade import analyse, layer_norm, synthesise
from bilevel.model.sets import Box, Set, ZeroMean

__all__ = ["Convex", "DifferenceOfConvex", "InputConvexNetwork"]

FACTOR = 1e-3
"""e^γ at the start."""
SPREAD = -10.0, 0.1
"""Mean and deviation of log w_z at the start."""


class Convex(Part):
    """N(u) = Σ_j e^{γ_j} Σ_i a((w_z * a(w_x * u + b_x) + b_z)_ji), w_z >= 0, zero padding.

    a is zero below 0, t²/(2ε) up to ε, and t - ε/2 beyond: convex and never falling, and so N is
    convex. Derivatives are closed forms; second ones are elements of the Clarke derivative.

    Args:
        channels: of both layers.
        size: odd side of the filters [pixel].
        smoothing: ε, where a turns linear, at the start.
        image_channels: of the images.
        rng: draws the start.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        smoothing: float,
        image_channels: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        first, second = (channels, image_channels), (channels, channels)
        xavier = math.sqrt(2 / (sum(first) * size**2))
        inner = xavier * torch.randn(*first, size, size, generator=rng)
        mean, deviation = SPREAD
        outer = (mean + deviation * torch.randn(*second, size, size, generator=rng)).exp()
        self.w_x = nn.Parameter(ZeroMean().project(inner))
        self.b_x = nn.Parameter(torch.zeros(channels))
        self.w_z = nn.Parameter(outer)
        self.b_z = nn.Parameter(torch.zeros(channels))
        self.log_factor = nn.Parameter(torch.full((channels,), math.log(FACTOR)))
        self.log_bend = nn.Parameter(torch.tensor(math.log(smoothing)))

    def sets(self) -> Mapping[str, Set]:
        """w_z >= 0, w_x of mean zero, positive factors and smoothing."""
        return {
            "w_x": ZeroMean(),
            "w_z": Box(lower=0.0),
            "log_factor": around(self.log_factor),
            "log_bend": around(self.log_bend),
        }

    def forward(self, u: Tensor) -> Tensor:
        """N(u), (b,)."""
        return self.value_and_slope(u)[0]

    def value_and_slope(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """N(u) and ∇N(u)."""
        smoothing, factor = self._scalars()
        first = analyse([self.w_x], u) + _wide(self.b_x)
        bent = first.clamp_min(0).minimum(smoothing)
        second = analyse([self.w_z], (first - bent / 2) * (bent / smoothing)) + _wide(self.b_z)
        turned = second.clamp_min(0).minimum(smoothing)
        force = factor * turned / smoothing
        value = ((second - turned / 2) * force).flatten(1).sum(1)
        back = synthesise([self.w_z], force)
        return value, synthesise([self.w_x], back * bent / smoothing)

    def hessian(self, u: Tensor) -> LinearMap:
        """Curvatures of both layers, computed once."""
        smoothing, factor = self._scalars()
        first = analyse([self.w_x], u) + _wide(self.b_x)
        bent = first.clamp_min(0).minimum(smoothing)
        second = analyse([self.w_z], (first - bent / 2) * (bent / smoothing)) + _wide(self.b_z)
        turned = second.clamp_min(0).minimum(smoothing)
        back = synthesise([self.w_z], factor * turned / smoothing)
        inner = back * _between(first, smoothing) / smoothing
        outer = factor * _between(second, smoothing) / smoothing
        return self._product(inner, bent / smoothing, outer)

    def _product(self, inner: Tensor, slope: Tensor, outer: Tensor) -> LinearMap:
        """w_xᵀ [inner + slope w_zᵀ outer w_z slope] w_x, with pointwise factors."""
        w_x, w_z = [self.w_x], [self.w_z]

        def apply(v: Tensor) -> Tensor:
            p = analyse(w_x, v)
            through = synthesise(w_z, outer * analyse(w_z, slope * p))
            return synthesise(w_x, inner * p + slope * through)

        def restrict(index: Tensor) -> LinearMap:
            return self._product(inner[index], slope[index], outer[index])

        return LinearMap(apply, restrict)

    def bounds(self) -> Bounds:
        """0 <= ∇²N <= (‖diag(e^{γ/2}) W_z‖² + max_c Σ_j e^{γ_j} Σ_i (w_z)_jci) ‖W_x‖²/ε.

        The slopes of a lie in [0, 1] and its curvatures in [0, 1/ε]: the first term is the
        curvature of the second layer, the second that of the first one, which enters through the
        columns of W_zᵀ diag(e^γ). Unknown where w_z has a negative entry.
        """
        w_z, factor = self.w_z.detach().double(), self.log_factor.detach().double().exp()
        if bool((w_z < 0).any()):
            return Bounds.unknown()
        sharp = (-self.log_bend.detach().double()).exp()
        across = layer_norm(_tall(factor.sqrt()) * w_z).square()
        through = (_tall(factor) * w_z).sum((0, 2, 3)).max()
        return Bounds.of(0.0, sharp * (across + through) * layer_norm(self.w_x).square())

    def _scalars(self) -> tuple[Tensor, Tensor]:
        """ε, and e^γ (m, 1, 1)."""
        return self.log_bend.exp(), _wide(self.log_factor.exp())


class _OfConvex(NetworkRegulariser):
    """What is made of input-convex networks of one layout."""

    def __init__(
        self,
        channels: int = 32,
        size: int = 5,
        smoothing: float = 0.01,
        weight: float | None = None,
        scale: float | None = None,
        *,
        image_channels: int = 1,
        seed: int = 0,
        learn: Collection[str] = LEARNED,
    ) -> None:
        super().__init__(weight, scale, learn=learn)
        self.layout = _layout(channels, size, smoothing, image_channels)
        self.make(seed)

    @abstractmethod
    def make(self, seed: int) -> None:
        """The networks."""

    def started(self, seed: int, name: str) -> Convex:
        """A network at random, a start for each name."""
        return self.own(Convex(*self.layout, generator(seed, name)))

    def options(self) -> dict[str, object]:
        """The sizes; the values travel as parameters."""
        return {**_named(self.layout), **super().options()}

    def check(self, image_shape: Shape) -> None:
        """Channels must match."""
        _check_channels(self.layout[3], image_shape)


class InputConvexNetwork(_OfConvex):
    """An input-convex network: two layers of filters, convex whatever is learned.

    R(x) = w σ⁻² N(σ x), N(u) = Σ_j e^{γ_j} Σ_i a((w_z * a(w_x * u + b_x) + b_z)_ji).

    The weights w_z are never negative, the filters w_x have mean zero and a is a smoothed ReLU, so
    that 0 <= ∇²R is proved, and an upper bound of ∇²R too. Add ``Tikhonov`` for a proved strong
    convexity where the operator alone has none.

    Args:
        channels: of both layers.
        size: odd side of the filters [pixel].
        smoothing: ε, where the ReLU turns linear, at the start [1].
        weight: factor w [1]; for a contrast of 1 of the data 1 if None.
        scale: factor σ of the image [1/grey value]; 1 over the contrast of the data if None.
        image_channels: of the images.
        seed: of the random start.
        learn: names of what is learned; the rest stays as given.

    Source: Mukherjee et al. 2020 (arXiv 2008.02839); these layers and starts: Hertrich et al. 2025.

    Raises:
        InputError: counts below 1, an even size, numbers that are not positive.

    Example:
        >>> network = InputConvexNetwork()
        >>> sum(p.numel() for p in network.parameters())
        26499
        >>> float(network.bounds((1, 8, 8)).mu)
        0.0
    """

    network: Convex

    def make(self, seed: int) -> None:
        """N."""
        self.network = self.started(seed, "convex")

    def energy(self, x: Tensor) -> Tensor:
        """N(x)."""
        return self.network(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Closed form."""
        return self.network.value_and_slope(x)

    def curvature(self, x: Tensor) -> LinearMap:
        """Closed form."""
        return self.network.hessian(x)

    def constants(self, image_shape: Shape) -> Bounds:
        """Convex; an upper bound from the norms of the layers."""
        del image_shape
        return self.network.bounds()


class DifferenceOfConvex(_OfConvex):
    """The difference of two input-convex networks: any curvature, with bounds of it.

    R(x) = w σ⁻² (N₁(σ x) - N₂(σ x)), each N as in :class:`InputConvexNetwork`.

    -L₂ <= ∇²R <= L₁ is proved, where L_k are the bounds of the two.

    Args:
        channels: of all layers.
        size: odd side of the filters [pixel].
        smoothing: ε, where the ReLU turns linear, at the start [1].
        weight: factor w [1]; for a contrast of 1 of the data 1 if None.
        scale: factor σ of the image [1/grey value]; 1 over the contrast of the data if None.
        image_channels: of the images.
        seed: of the random start.
        learn: names of what is learned; the rest stays as given.

    Source: Zhang and Leong 2025 (arXiv 2502.00240); these layers: Hertrich et al. 2025.

    Raises:
        InputError: counts below 1, an even size, numbers that are not positive.

    Example:
        >>> sum(p.numel() for p in DifferenceOfConvex().parameters())
        52996
    """

    first: Convex
    second: Convex

    def make(self, seed: int) -> None:
        """N₁ and N₂."""
        self.first = self.started(seed, "convex")
        self.second = self.started(seed, "concave")

    def energy(self, x: Tensor) -> Tensor:
        """N₁(x) - N₂(x)."""
        return self.first(x) - self.second(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Closed form."""
        value, slope = self.first.value_and_slope(x)
        less, steep = self.second.value_and_slope(x)
        return value - less, slope - steep

    def curvature(self, x: Tensor) -> LinearMap:
        """Closed form."""
        return LinearMap.sum([self.first.hessian(x), self.second.hessian(x).times(-x.new_ones(()))])

    def constants(self, image_shape: Shape) -> Bounds:
        """Those of the first, and minus those of the second."""
        del image_shape
        less = self.second.bounds()
        turned = Bounds(-less.lipschitz, -less.mu, less.lipschitz_from, less.mu_from)
        total = self.first.bounds() + turned
        return replace(total, lipschitz=torch.maximum(total.lipschitz, -total.mu))


def _layout(
    channels: int, size: int, smoothing: float, image_channels: int
) -> tuple[int, int, float, int]:
    check_count(channels, "channels")
    check_count(image_channels, "image_channels")
    if size < 1 or size % 2 == 0:
        raise InputError("size must be odd", given=size)
    return channels, size, check_positive(smoothing, "smoothing"), image_channels


def _named(layout: tuple[int, int, float, int]) -> dict[str, object]:
    names = "channels", "size", "smoothing", "image_channels"
    return dict(zip(names, layout, strict=True))


def _check_channels(channels: int, image_shape: Shape) -> None:
    if channels != image_shape[0]:
        what = f"a network of image_channels={channels} does not fit"
        raise InputError(what, given=f"images (c, h, w) = {image_shape}")


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


def _tall(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _between(t: Tensor, end: Tensor) -> Tensor:
    """1 where t lies between 0 and ``end``."""
    return ((t > 0) & (t < end)).to(t.dtype)
