"""Half the squared residual of a denoiser."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad

from bilevel.ground.checks import check_count
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model.networks.convolutions import bank, smooth_step
from bilevel.model.networks.network import LEARNED, NetworkRegulariser, checked

__all__ = ["LeastSquaresResidual", "ResidualNetwork"]

SMALL = 0.1
"""Size of what the U-net takes away at the start, relative to the image."""


class LeastSquaresResidual(NetworkRegulariser):
    """The least-squares residual of a denoiser: what it would change.

    R(x) = w σ⁻² ½ ‖σ x - D(σ x)‖².

    D is any network that maps images to images; if none is given, one that subtracts the output of
    a U-net without biases from the image.

    Args:
        denoiser: D, (b, c, h, w) to the same shape; saved if it is a ``Part`` with ``options()``.
        channels: of the scales of the U-net, each half as fine as the one before.
        blocks: residual blocks of the U-net at each scale, on the way down and on the way up.
        weight: factor w [1]; for a contrast of 1 of the data 1 if None.
        scale: factor σ of the image [1/grey value]; 1 over the contrast of the data if None.
        image_channels: of the images.
        seed: of the random start of the U-net.
        learn: names of what is learned; the rest stays as given.

    Source: Zou et al. 2023 (arXiv 2303.13805); Hurault, Leclaire, Papadakis 2022
    (arXiv 2110.03220), equation (4).

    Raises:
        InputError: a denoiser that is no module, no scale, or counts below 1.

    Example:
        >>> blur = nn.AvgPool2d(3, stride=1, padding=1)
        >>> residual = LeastSquaresResidual(blur, weight=1.0, scale=1.0)
        >>> residual(torch.ones(1, 1, 5, 5)) > 0
        tensor([True])
    """

    def __init__(
        self,
        denoiser: nn.Module | None = None,
        channels: Sequence[int] = (8, 16),
        blocks: int = 1,
        weight: float | None = None,
        scale: float | None = None,
        *,
        image_channels: int = 1,
        seed: int = 0,
        learn: Collection[str] = LEARNED,
    ) -> None:
        super().__init__(weight, scale, learn=learn)
        for count in (*channels, blocks, image_channels):
            check_count(count, "channels and blocks")
        if not channels:
            raise InputError("channels must name at least one scale")
        self.given = denoiser is not None
        self.sizes = {"channels": list(channels), "blocks": blocks}
        self.image_channels = image_channels
        if denoiser is None:
            rng = generator(seed, "residual")
            denoiser = ResidualNetwork(tuple(channels), blocks, image_channels, rng)
        self.denoiser = self.own(checked(denoiser, "denoiser"))

    def options(self) -> dict[str, object]:
        """The denoiser if it was given, otherwise its sizes."""
        own = {**self.sizes, "image_channels": self.image_channels}
        if self.given:
            own = {"denoiser": self.denoiser}
        return {**own, **super().options()}

    def energy(self, x: Tensor) -> Tensor:
        """½ ‖x - D(x)‖²."""
        found = self.denoiser(x)
        if found.shape != x.shape:
            what = "the denoiser must give images of the same shape"
            raise InputError(what, given=f"{tuple(found.shape)} for {tuple(x.shape)}")
        return 0.5 * (x - found).square().flatten(1).sum(1)


class ResidualNetwork(nn.Module):
    """x - U(x) with a U-net U of smooth residual blocks, without biases, for images of any size."""

    def __init__(
        self, channels: tuple[int, ...], blocks: int, image_channels: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        steps = list(pairwise(channels))
        self.head = bank(rng, (channels[0], image_channels, 3, 3))
        tail = bank(rng, (image_channels, channels[0], 3, 3))
        self.tail = nn.Parameter(SMALL * tail.detach())
        self.down = nn.ModuleList(_Blocks(m, blocks, rng) for m in channels)
        self.up = nn.ModuleList(_Blocks(m, blocks, rng) for m in channels[:-1])
        self.coarser = nn.ParameterList(bank(rng, (n, m, 2, 2)) for m, n in steps)
        self.finer = nn.ParameterList(bank(rng, (n, m, 2, 2)) for m, n in steps)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; inside, images are continued to a multiple of the coarsest pixel."""
        height, width = x.shape[2:]
        side = 2 ** len(self.coarser)
        wide = pad(x, (0, -width % side, 0, -height % side), mode="replicate")
        return x - self._residual(wide)[..., :height, :width]

    def _residual(self, x: Tensor) -> Tensor:
        found = [self.down[0](conv2d(x, self.head, padding=1))]
        for coarser, blocks in zip(self.coarser, list(self.down)[1:], strict=True):
            found.append(blocks(conv2d(found[-1], coarser, stride=2)))
        u = found.pop()
        for finer, blocks in zip(reversed(list(self.finer)), reversed(list(self.up)), strict=True):
            u = blocks(found.pop() + conv_transpose2d(u, finer, stride=2))
        return conv2d(u, self.tail, padding=1)


class _Blocks(nn.Module):
    """A chain of u + K₂ φ(K₁ u), φ(t) = softplus(t) - ln 2."""

    def __init__(self, m: int, count: int, rng: torch.Generator) -> None:
        super().__init__()
        pairs = [(bank(rng, (m, m, 3, 3)), bank(rng, (m, m, 3, 3))) for _ in range(count)]
        self.first = nn.ParameterList(first for first, _ in pairs)
        self.second = nn.ParameterList(second for _, second in pairs)

    def forward(self, u: Tensor) -> Tensor:
        """The same shape."""
        for first, second in zip(self.first, self.second, strict=True):
            u = u + conv2d(smooth_step(conv2d(u, first, padding=1)), second, padding=1)
        return u
