"""Small networks of two channels, their weights drawn at random, away from their starts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bilevel.extend import NetworkRegulariser, Part
from bilevel.model import networks, space_of
from bilevel.model.regularisers import Regulariser

LEARN = ("weight", "scale")
FULL = ("network", *LEARN)


class Patches(Part):
    """A network of one's own that can be saved; it drops what a constant adds."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.width = width
        self.layer = nn.Conv2d(2, width, 3, padding=1)

    def options(self) -> dict[str, object]:
        return {"width": self.width}

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)).square().flatten(1).sum(1)


class Differences(NetworkRegulariser):
    """A regulariser of one's own: log-cosh of what two layers leave.

    Args:
        width: features.
    """

    def __init__(self, width: int = 3, *, learn: tuple[str, ...] = FULL) -> None:
        super().__init__(learn=learn)
        self.width = width
        self.layers = self.own(nn.Sequential(nn.Conv2d(2, width, 3), nn.Conv2d(width, 2, 1)))

    def options(self) -> dict[str, object]:
        return {"width": self.width, **super().options()}

    def energy(self, x: Tensor) -> Tensor:
        return self.layers(x).cosh().log().flatten(1).sum(1)


def drawn(network: Regulariser, rng: torch.Generator) -> Regulariser:
    """Random weights in their sets, of a size at which nothing vanishes."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            size = 0.5 if "log" in name else 0.3
            value.add_(size * torch.randn(value.shape, generator=rng))
        admissible = space_of(network).project(dict(network.named_parameters()))
        for name, value in network.named_parameters():
            value.copy_(admissible[name])
    return network


def convex(kind: type, learn: tuple[str, ...], rng: torch.Generator) -> Regulariser:
    network = kind(2, 3, 0.3, weight=0.5, scale=1.5, image_channels=2, learn=learn)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "factor" in name:
                value.add_(4.0)
    return drawn(network, rng)


def small(learn: tuple[str, ...] = LEARN) -> dict[str, Callable[[torch.Generator], Regulariser]]:
    def made(kind: Callable[..., Regulariser], *sizes: object) -> Callable[..., Regulariser]:
        options = {"weight": 0.5, "scale": 1.5, "image_channels": 2, "learn": learn}
        return lambda rng: drawn(kind(*sizes, **options), rng)

    return {
        "icnn": lambda rng: convex(networks.InputConvexNetwork, learn, rng),
        "idcnn": lambda rng: convex(networks.DifferenceOfConvex, learn, rng),
        "cnn": made(networks.LocalNetwork, (3, 2)),
        "tdv": made(networks.TotalDeepVariation, 2, 2, 2),
        "lsr": made(networks.LeastSquaresResidual, None, (2, 3)),
        "network": lambda rng: drawn(networks.Network(Patches(), 0.5, 1.5, learn=learn), rng),
        "network of one's own": lambda rng: drawn(Differences(learn=learn), rng),
    }


NETWORKS = small()

KINDS = {
    "icnn": (networks.InputConvexNetwork, (4, 3)),
    "idcnn": (networks.DifferenceOfConvex, (4, 3)),
    "cnn": (networks.LocalNetwork, ((8, 8),)),
    "total-deep-variation": (networks.TotalDeepVariation, (4, 2, 1)),
    "lsr": (networks.LeastSquaresResidual, (None, (4, 6))),
}
"""Classes of the library with small sizes."""


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1)
