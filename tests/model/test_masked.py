"""Masks that come with the data: each row has its own, whatever rows it is together with."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground import rows
from bilevel.ground.randomness import generator
from bilevel.model.fidelities import L1, Fidelity, KullbackLeibler, Masked, SquaredL2
from bilevel.model.operators import Convolution, FourierMask, Identity, Mask
from contracts.fidelities import FIDELITIES, FidelityContract
from contracts.zoo import OPERATORS, SHAPE, Random

KERNEL = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.2, 0.2]], dtype=torch.float64)


ALIKE = {"smoothed L1", "Student's t", "Rician", "speckle", "Anscombe"}
"""They come by what is asked of them here by the same lines as others."""


class TestMasked(FidelityContract):
    names: ClassVar[tuple[str, ...]] = tuple(name for name in FIDELITIES if name not in ALIKE)

    @staticmethod
    def make(name: str, seed: int) -> tuple[Fidelity, Tensor, Tensor, Random]:
        rng = generator(seed, "masked", name)
        operator = list(OPERATORS.values())[seed % len(OPERATORS)](rng)
        inner = FIDELITIES[name](operator, rng).double()
        x = 1.5 * torch.rand(3, *SHAPE, generator=rng, dtype=torch.float64) - 0.3
        shape = inner.operator(x).shape
        y, mask = torch.rand(2, *shape, generator=rng, dtype=torch.float64)
        data = Masked.data((y - 0.2).clamp_min(0.0), (mask - 0.2).clamp_min(0.0))
        return Masked(inner), x.detach(), data, rng


def masks(shape: tuple[int, ...], count: int = 3) -> Tensor:
    share = torch.tensor([0.3, 0.6, 0.9][:count]).reshape(-1, 1, 1, 1)
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)) < share


@pytest.mark.parametrize("kind", [SquaredL2, KullbackLeibler])
def test_every_row_is_reconstructed_as_alone_with_its_mask(kind: type[Fidelity]) -> None:
    """The rows leave at different steps, so that what remains must keep the right masks."""
    x = bl.data.embedded_images(size=12)[:3].double()
    ridge = bl.regularisers.Tikhonov(1e-2)
    regulariser = bl.regularisers.TotalVariation(0.02, 0.05) + ridge
    seen, tol = masks((1, 12, 12)), bl.Tolerance(rms=1e-5)
    y = seen * Convolution(KERNEL)(x)
    whole = bl.Variational(Masked(kind(Convolution(KERNEL))), regulariser).double()
    found = bl.minimise(whole.at(Masked.data(y, seen)), bl.solvers.LBFGS(), tol=tol).require()
    assert len(set(found.steps.tolist())) > 1
    for k in range(3):
        own = Mask(seen[k, 0]) @ Convolution(KERNEL)
        alone = bl.Variational(kind(own), regulariser).double()
        expected = bl.minimise(alone.at(y[k : k + 1]), bl.solvers.LBFGS(), tol=tol).require()
        off = rows.rms(found.x[k : k + 1] - expected.x)
        assert float(off) <= float(found.certificate.rms[k] + expected.certificate.rms)


def test_a_weight_is_learned_from_samples_of_different_masks() -> None:
    x = bl.data.embedded_images(size=8)[:2].double()
    seen = masks((1, 8, 1), 2).expand(-1, -1, 8, 8)
    noise = 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    data = Masked.data(seen * (x + noise), seen)
    tv = bl.regularisers.TotalVariation(0.02, 0.05, learn=("weight",))
    energy = bl.Variational(Masked(SquaredL2()), tv + bl.regularisers.Tikhonov(1e-2, learn=()))
    pairs = bl.data.Pairs(data, x, ("a", "b"))
    problem = bl.BilevelProblem(energy.double(), bl.losses.SquaredError(), pairs)
    assert bl.check_hypergradient(problem).passed
    found, exact = (problem.value_and_grad(problem.theta, tol=t) for t in (1e-3, 1e-10))
    (grad,), (truth,) = found.grad.values(), exact.grad.values()
    assert float((grad - truth).norm()) <= found.error < torch.inf


def test_gradients_reach_the_masks() -> None:
    x, mask = torch.rand(2, 2, 1, 4, 4, dtype=torch.float64)
    energy = bl.Variational(Masked(SquaredL2()), bl.regularisers.Tikhonov(0.5)).double()
    point = mask.clone().requires_grad_()
    data = torch.cat([x, point], 1)
    bl.argmin(energy, data, tol=bl.Tolerance(rms=1e-10)).sum().backward()
    by_hand = mask.clone().requires_grad_()
    (by_hand * x / (by_hand.square() + 0.5)).sum().backward()
    assert point.grad is not None
    assert by_hand.grad is not None
    torch.testing.assert_close(point.grad, by_hand.grad, rtol=1e-6, atol=1e-8)


def test_masks_of_k_space() -> None:
    lines = masks((1, 1, 8), 2).expand(-1, -1, 6, -1)
    operator = FourierMask(torch.ones(6, 8))
    x = torch.rand(2, 1, 6, 8)
    y = lines * operator(x)
    energy = bl.Variational(Masked(SquaredL2(operator)), bl.regularisers.Tikhonov(0.01))
    found = bl.minimise(
        energy.at(Masked.data(y, lines)), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-3)
    ).require()
    for k in range(2):
        own = FourierMask(lines[k, 0].float())
        alone = bl.Variational(SquaredL2(own), bl.regularisers.Tikhonov(0.01))
        expected = bl.minimise(
            alone.at(y[k : k + 1]), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-4)
        )
        assert float(rows.rms(found.x[k : k + 1] - expected.x)) <= 1.2e-3


def test_units_left_to_the_data_are_those_of_what_is_seen() -> None:
    x = 255 * bl.data.embedded_images(size=16)[:2]
    seen = masks((1, 16, 16), 2)
    energy = bl.Variational(Masked(SquaredL2()), bl.regularisers.TotalVariation())
    plain = bl.Variational(SquaredL2(), bl.regularisers.TotalVariation())
    energy.settle(Masked.data(x, torch.ones_like(x)))
    plain.settle(x)
    for ours, theirs in zip(energy.parameters(), plain.parameters(), strict=False):
        torch.testing.assert_close(ours, theirs)
    assert energy.start(Masked.data(seen * x, seen)).shape == x.shape


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Masked(L1()), "smooth fidelity"),  # type: ignore[arg-type]
        (lambda: Masked(Identity()), "smooth fidelity"),  # type: ignore[arg-type]
        (lambda: Masked(Masked(SquaredL2())), "once"),
        (lambda: Masked.data(torch.ones(2, 1, 4, 4), torch.ones(3, 1, 4, 4)), "masks must fit"),
        (lambda: energy_at(torch.ones(1, 1, 4, 4)), "channels of masks"),
        (lambda: energy_at(Masked.data(torch.ones(2, 1, 4, 4), torch.eye(2)[:, :1, None, None])),
         r"rows \[1\]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        make()


def energy_at(y: Tensor) -> None:
    bl.Variational(Masked(SquaredL2()), bl.regularisers.Tikhonov(0.1)).at(y)
