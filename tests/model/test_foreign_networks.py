"""Modules that cannot be regularisers: refused in one sentence, before any work."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.cli.catalogue import CATALOGUE
from bilevel.ground.randomness import generator
from contracts.networks import KINDS

N = bl.networks
DOUBLE = torch.float64


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator(seed, "networks"), dtype=DOUBLE)


class Mixing(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.layer = kind, nn.Conv2d(1, 2, 3, padding=1)
        self.norm, self.drop = nn.BatchNorm2d(2), nn.Dropout(0.5)
        self.plain = (torch.ones((), dtype=DOUBLE),)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layer(x)
        if self.kind == "batch norm":
            z = self.norm(z).tanh()
        if self.kind == "dropout":
            z = self.drop(z)
        if self.kind == "mean":
            z = z - z.mean()
        values = z.square().flatten(1).sum(1)
        if self.kind == "detached":
            values = values.detach()
        if self.kind == "constant":
            values = self.layer.bias.sum().expand(len(x))
        if self.kind == "type":
            return values * self.plain[0].view(1)
        other = {"scalar": values.sum(), "wide": values[:, None], "nan": values * torch.nan}
        return other.get(self.kind, values)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("batch norm", "mixes rows"),
        ("mean", "mixes rows"),
        ("dropout", "another function in every call"),
        ("scalar", "one number a row"),
        ("wide", "one number a row"),
        ("type", "one number a row"),
        ("detached", "no derivative"),
        ("constant", "no derivative"),
        ("nan", "must be finite, but got nan"),
    ],
)
def test_networks_that_cannot_be_regularisers_are_refused(kind: str, says: str) -> None:
    """Before any long work, and their buffers are as they were."""
    module = Mixing(kind)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    energy = bl.Variational(bl.fidelities.SquaredL2(), N.Network(module))
    pairs = bl.data.Pairs(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), ("a", "b"))
    with pytest.raises(bl.InputError, match=says):
        bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())
    if kind in ("batch norm", "dropout"):
        module.eval()
        bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def test_networks_that_do_not_take_the_images_are_refused() -> None:
    whole = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    N.Network(whole).check((1, 8, 8))
    with pytest.raises(bl.InputError, match="the network fails"):
        N.Network(whole).check((1, 9, 8))
    with pytest.raises(bl.InputError, match="float64"):
        bl.Variational(bl.fidelities.SquaredL2(), N.Network(whole)).at(images(1, 1, 8, 8))
    for name, (kind, sizes) in KINDS.items():
        kind(*sizes).check((1, 5, 7))
        with pytest.raises(bl.InputError, match=r"fails|fit"):
            kind(*sizes).check((3, 5, 7))
        with pytest.raises(bl.InputError):
            kind(*sizes, learn=("weigth",))
        assert name in CATALOGUE["regularisers"]
    with pytest.raises(bl.InputError, match=r"nn\.Module"):
        N.Network(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(bl.InputError, match="same shape"):
        N.LeastSquaresResidual(nn.Conv2d(1, 1, 3)).check((1, 8, 8))
