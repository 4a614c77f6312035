"""Total deep variation: a multi-scale residual network, squared."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from bilevel.ground.checks import check_count
from bilevel.ground.randomness import generator
from bilevel.model.networks.convolutions import bank, smooth_step
from bilevel.model.networks.network import LEARNED, NetworkRegulariser
from bilevel.model.part import Part
from bilevel.model.sets import Set, ZeroMean

__all__ = ["TotalDeepVariation"]

Random = torch.Generator


class TotalDeepVariation(NetworkRegulariser):
    """Total deep variation: the squared output of a multi-scale network.

    R(x) = w σ⁻² Σ_i ½ N(σ x)_i²/m, N a chain of 3 x 3 filters K₁ to m features, macro-blocks, and
    1 x 1 filters K_N to one. A macro-block walks down the scales and up again through residual
    micro-blocks u + K₂ φ(K₁ u), φ(t) = softplus(t) - ln 2; scales are linked by smoothed filters
    of stride 2 and their transposes. Zero padding; the kernels of the first K₁ have mean zero and
    norms of at most 1.

    Args:
        features: m.
        scales: of a macro-block, each half as fine as the one before.
        blocks: macro-blocks.
        weight: factor w [1]; for a contrast of 1 of the data 1 if None.
        scale: factor σ of the image [1/grey value]; 1 over the contrast of the data if None.
        image_channels: of the images.
        seed: of the random start.
        learn: names of what is learned; the rest stays as given.

    Source: Kobler et al. 2020 (arXiv 2006.08789), Section 3; in this form Hertrich et al. 2025.

    Raises:
        InputError: counts below 1.

    Example:
        >>> sum(p.numel() for p in TotalDeepVariation().parameters())
        387394
        >>> sum(p.numel() for p in TotalDeepVariation(features=8, scales=2, blocks=1).parameters())
        4690
    """

    def __init__(
        self,
        features: int = 32,
        scales: int = 3,
        blocks: int = 3,
        weight: float | None = None,
        scale: float | None = None,
        *,
        image_channels: int = 1,
        seed: int = 0,
        learn: Collection[str] = LEARNED,
    ) -> None:
        super().__init__(weight, scale, learn=learn)
        sizes = {"features": features, "scales": scales, "blocks": blocks}
        self.sizes = {**sizes, "image_channels": image_channels}
        for name, count in self.sizes.items():
            check_count(count, name)
        rng = generator(seed, "deep variation")
        self.layers = self.own(_Layers(features, scales, blocks, image_channels, rng))

    def options(self) -> dict[str, object]:
        """The sizes; the values travel as parameters."""
        return {**self.sizes, **super().options()}

    def energy(self, x: Tensor) -> Tensor:
        """Σ_i ½ N(x)_i²/m."""
        return self.layers(x).square().flatten(1).sum(1) / (2 * self.sizes["features"])


class _Layers(Part):
    """N, one channel."""

    def __init__(self, m: int, scales: int, blocks: int, image_channels: int, rng: Random) -> None:
        super().__init__()
        first = bank(rng, (m, image_channels, 3, 3))
        self.first = nn.Parameter(_KERNELS.project(first.detach()))
        self.blocks = nn.ModuleList(_MacroBlock(m, scales, rng) for _ in range(blocks))
        self.last = bank(rng, (1, m, 1, 1))

    def sets(self) -> dict[str, Set]:
        """Kernels of mean zero and norm at most 1."""
        return {"first": _KERNELS}

    def forward(self, x: Tensor) -> Tensor:
        """N(x), (b, 1, h, w)."""
        levels = [conv2d(x, self.first, padding=1)]
        for block in self.blocks:
            levels = block(levels)
        return conv2d(levels[0], self.last)


_KERNELS = ZeroMean(dims=3, radius=1.0)


class _MacroBlock(nn.Module):
    """Features of some scales to features of all, finest first."""

    def __init__(self, m: int, scales: int, rng: Random) -> None:
        super().__init__()
        self.down = nn.ModuleList(_MicroBlock(m, rng) for _ in range(scales))
        self.up = nn.ModuleList(_MicroBlock(m, rng) for _ in range(scales - 1))
        self.coarser = nn.ModuleList(_Halving(m, rng) for _ in range(scales - 1))
        self.finer = nn.ModuleList(_Halving(m, rng) for _ in range(scales - 1))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Down, adding to what a former block left at a scale, and up."""
        found = [self.down[0](levels[0])]
        for k, halving in enumerate(self.coarser, start=1):
            seen = halving(found[-1])
            found.append(self.down[k](levels[k] + seen if k < len(levels) else seen))
        for k in reversed(range(len(self.up))):
            finer = cast(_Halving, self.finer[k])
            found[k] = self.up[k](found[k] + finer.transposed(found[k + 1], found[k]))
        return found


class _MicroBlock(nn.Module):
    """u + K₂ φ(K₁ u)."""

    def __init__(self, m: int, rng: Random) -> None:
        super().__init__()
        self.first, self.second = bank(rng, (m, m, 3, 3)), bank(rng, (m, m, 3, 3))

    def forward(self, u: Tensor) -> Tensor:
        """The same shape."""
        inner = smooth_step(conv2d(u, self.first, padding=1))
        return u + conv2d(inner, self.second, padding=1)


class _Halving(nn.Module):
    """Filters of 3 x 3, smoothed by the binomial ones of 5 x 5, at every second pixel."""

    blur: Tensor

    def __init__(self, m: int, rng: Random) -> None:
        super().__init__()
        self.filters = bank(rng, (m, m, 3, 3))
        taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("blur", torch.outer(taps, taps)[None, None], persistent=False)

    def _smoothed(self) -> Tensor:
        """(m, m, 7, 7)."""
        m = len(self.filters)
        alone = self.filters.reshape(-1, 1, 3, 3)
        return conv2d(alone, self.blur, padding=4).view(m, m, 7, 7)

    def forward(self, u: Tensor) -> Tensor:
        """Half the size, rounded up."""
        return conv2d(u, self._smoothed(), stride=2, padding=3)

    def transposed(self, u: Tensor, like: Tensor) -> Tensor:
        """The transposed map, to the size of ``like``."""
        further = [1 - side % 2 for side in like.shape[2:]]
        return conv_transpose2d(u, self._smoothed(), stride=2, padding=3, output_padding=further)
