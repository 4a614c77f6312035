"""A convolutional network that sees small patches alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor, nn
from torch.nn.functional import pad

from bilevel.ground.checks import check_count
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model.networks.convolutions import convolution
from bilevel.model.networks.network import LEARNED, NetworkRegulariser

__all__ = ["LocalNetwork"]


class LocalNetwork(NetworkRegulariser):
    """A plain convolutional network: the mean over all patches of a learned function of each.

    R(x) = w σ⁻² Σ_p N(P_p(σ x)) / k², where N takes a patch of k x k pixels, k = 15 for the seven
    layers of 3 x 3 of the default, and P_p cuts out the p-th one. Images are continued by their
    border pixels, so that each pixel lies in k² patches. Between layers stands SiLU.

    Args:
        channels: of the layers but the last, which has one and no bias.
        weight: factor w [1]; for a contrast of 1 of the data 1 if None.
        scale: factor σ of the image [1/grey value]; 1 over the contrast of the data if None.
        image_channels: of the images.
        seed: of the random start.
        learn: names of what is learned; the rest stays as given.

    Source: Prost et al. 2021 (arXiv 2107.13394), "Learning local regularization for variational
    image restoration"; these layers: Hertrich et al. 2025, who divide by 142² instead of 15².

    Raises:
        InputError: no layer, or counts below 1.

    Example:
        >>> sum(p.numel() for p in LocalNetwork().parameters())
        176930
    """

    def __init__(
        self,
        channels: Sequence[int] = (128, 64, 64, 64, 32, 32),
        weight: float | None = None,
        scale: float | None = None,
        *,
        image_channels: int = 1,
        seed: int = 0,
        learn: Collection[str] = LEARNED,
    ) -> None:
        super().__init__(weight, scale, learn=learn)
        if not channels:
            raise InputError("channels must name at least one layer")
        for count in (*channels, image_channels):
            check_count(count, "channels")
        self.channels, self.image_channels = tuple(channels), image_channels
        rng, layers = generator(seed, "local"), list[nn.Module]()
        for inner, outer in zip((image_channels, *channels), channels, strict=False):
            layers += [convolution(rng, inner, outer, 3, bias=True), nn.SiLU()]
        layers.append(convolution(rng, channels[-1], 1, 3, bias=False))
        self.layers = self.own(nn.Sequential(*layers))
        self.margin = 2 * (len(channels) + 1)

    def options(self) -> dict[str, object]:
        """The sizes; the values travel as parameters."""
        own = {"channels": list(self.channels), "image_channels": self.image_channels}
        return {**own, **super().options()}

    def energy(self, x: Tensor) -> Tensor:
        """Σ_p N(P_p x)/k²."""
        wide = pad(x, (self.margin,) * 4, mode="replicate")
        return self.layers(wide).flatten(1).sum(1) / (self.margin + 1) ** 2
