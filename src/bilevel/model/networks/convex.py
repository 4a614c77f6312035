"""Input-convex networks of two layers, closed form, and the difference of two."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bilevel.ground import rows
from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude
from bilevel.model.networks.network import LEARNED, NetworkRegulariser
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Part, around, zeros_for
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
        at = self._layers(u)
        value = ((at.second - at.turned / 2) * at.force).flatten(1).sum(1)
        return value, synthesise([self.w_x], at.pull)

    def hessian(self, u: Tensor) -> LinearMap:
        """Curvatures of both layers, computed once."""
        at = self._layers(u)
        inner = at.back * _between(at.first, at.smoothing) / at.smoothing
        outer = at.factor * _between(at.second, at.smoothing) / at.smoothing
        return self._product(inner, at.bent / at.smoothing, outer)

    def _layers(self, u: Tensor) -> _Layers:
        smoothing, factor = self.log_bend.exp(), _wide(self.log_factor.exp())
        first = analyse([self.w_x], u) + _wide(self.b_x)
        bent = first.clamp_min(0).minimum(smoothing)
        second = analyse([self.w_z], (first - bent / 2) * (bent / smoothing)) + _wide(self.b_z)
        turned = second.clamp_min(0).minimum(smoothing)
        force = factor * turned / smoothing
        back = synthesise([self.w_z], force)
        return _Layers(smoothing, factor, first, bent, second, turned, force, back)

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
        return self._norms().bounds

    def magnitude(self, image_shape: Shape) -> Magnitude:
        """Both layers are sums with biases, and what returns from the second is a sum again.

        An error of the first layer changes ∇N by at most L/‖W_x‖ times as much directly, and by way
        of the second layer by ‖W_z‖ ‖W_x‖ ‖diag(e^{γ/2}) W_z‖ max e^{γ/2}/ε; it is relative to
        ‖W_x u‖ and the biases. The rest is relative to ‖W_x‖ times what is sent back at 0.
        """
        norms, pixels = self._norms(), math.sqrt(image_shape[1] * image_shape[2])
        biases = [pixels * b.detach().double().square().sum().sqrt() for b in (self.b_x, self.b_z)]
        through = norms.first * norms.across * norms.factor.sqrt() * norms.sharp
        direct = norms.bounds.lipschitz / norms.first.clamp_min(1e-300)
        both = direct + norms.second * through
        with torch.no_grad():
            pull = rows.length(self._layers(zeros_for(self, image_shape)).pull)
        offset = norms.first * pull + both * biases[0] + through * biases[1]
        return Magnitude(norms.first * both, offset)

    def _norms(self) -> _Norms:
        w_z, factor = self.w_z.detach().double(), self.log_factor.detach().double().exp()
        sharp = (-self.log_bend.detach().double()).exp()
        first, second = layer_norm(self.w_x), layer_norm(self.w_z)
        across = layer_norm(_tall(factor.sqrt()) * w_z)
        most = (_tall(factor) * w_z).sum((0, 2, 3)).max()
        bounds = Bounds.of(0.0, sharp * (across.square() + most) * first.square())
        if bool((w_z < 0).any()):
            bounds = Bounds.unknown()
        return _Norms(first, second, across, factor.max(), sharp, bounds)


@dataclass(frozen=True)
class _Layers:
    """What both layers make of an image, and what is sent back."""

    smoothing: Tensor
    factor: Tensor
    first: Tensor
    bent: Tensor
    second: Tensor
    turned: Tensor
    force: Tensor
    back: Tensor

    @property
    def pull(self) -> Tensor:
        """What the first layer sends back."""
        return self.back * self.bent / self.smoothing


@dataclass(frozen=True)
class _Norms:
    """‖W_x‖, ‖W_z‖, ‖diag(e^{γ/2}) W_z‖, the largest e^γ, 1/ε, and the bounds of ∇²N."""

    first: Tensor
    second: Tensor
    across: Tensor
    factor: Tensor
    sharp: Tensor
    bounds: Bounds


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

    def terms(self, image_shape: Shape) -> Magnitude:
        """From the norms of the layers and their biases."""
        return self.network.magnitude(image_shape)


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

    def terms(self, image_shape: Shape) -> Magnitude:
        """Of both."""
        return self.first.magnitude(image_shape) + self.second.magnitude(image_shape)


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
