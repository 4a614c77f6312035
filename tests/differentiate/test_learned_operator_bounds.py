"""Errors of hypergradients are never below the true ones where the operator is learned too."""

from __future__ import annotations

import math

import pytest
import torch

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model.fidelities import Fidelity, KullbackLeibler, SampledL2, SquaredL2
from bilevel.model.operators import Convolution, Downsampling, GaussianBlur, MultiCoil
from contracts.zoo import Random, log_uniform

PROBLEMS, BLOCK, SIZE = 500, 25, 8
LEARN = ("kernel",)


def kernel(rng: Random) -> torch.Tensor:
    taps = 0.1 + torch.rand(3, 3, generator=rng)
    return taps / taps.sum()


def fidelity(kind: int, rng: Random) -> Fidelity:
    """Widths, kernels on the simplex or free, of blurs and of coarser pixels, and masks."""
    boundary = ("circular", "reflecting", "zero")[int(torch.randint(3, (), generator=rng))]
    width = float(0.5 + torch.rand((), generator=rng))
    if kind == 0:
        return SquaredL2(GaussianBlur(width, 5, boundary, learn=("sigma",)), learn=("weight",))
    if kind == 1:
        blur = Convolution(kernel(rng), boundary, learn=LEARN, simplex=True)
        return SquaredL2(blur, learn=("weight",))
    if kind == 2:
        return KullbackLeibler(Convolution(kernel(rng), boundary, learn=LEARN), 0.2)
    if kind == 3:
        return SquaredL2(Downsampling(2, kernel(rng), learn=LEARN))
    maps = torch.complex(*torch.randn(2, 2, SIZE, SIZE, generator=rng))
    mask, kept = torch.rand(1, SIZE, generator=rng), torch.arange(SIZE)[None] < 2
    operator = MultiCoil(torch.ones(SIZE, SIZE), maps)
    return SampledL2(operator, mask, kept, 5.0, learn=("mask", "weight"))


def problem(seed: int) -> tuple[bl.BilevelProblem, Random]:
    rng = generator(seed, "learned operators")
    kind, double = seed % 5, seed % 2 == 0
    model = fidelity(kind, rng)
    x = torch.rand(2, 2 if kind == 4 else 1, SIZE, SIZE, generator=rng)
    seen = model.operator(x).detach()
    y = (seen + 0.1 * torch.rand(seen.shape, generator=rng)).clamp_min(0.0 if kind == 2 else -9.0)
    tv = bl.regularisers.TotalVariation(
        log_uniform(rng, -2.5, -1), log_uniform(rng, -1.5, -0.5), coupled=kind == 4
    )
    ridge = bl.regularisers.Tikhonov(log_uniform(rng, -1.5, 0), learn=())
    energy = bl.Variational(model, tv + ridge)
    pairs = bl.data.Pairs(y, x, ("a", "b"))
    if double:
        pairs, energy = bl.data.Pairs(y.double(), x.double(), pairs.ids), energy.double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs), rng


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(first, marks=[pytest.mark.long] if first else [])
        for first in range(0, PROBLEMS, BLOCK)
    ],
)
def test_no_error_exceeds_what_is_proved(first: int) -> None:
    claimed = 0
    for seed in range(first, first + BLOCK):
        own, rng = problem(seed)
        found = own.value_and_grad(own.theta, tol=log_uniform(rng, -4, -1.5))
        claimed += math.isfinite(found.error)
        exact = bl.BilevelProblem(
            own.energy.double(),
            own.loss,
            bl.data.Pairs(own.samples.y.double(), own.samples.target.double(), ("a", "b")),  # type: ignore[attr-defined]
        )
        theta = {name: value.double() for name, value in own.theta.items()}
        truth = exact.value_and_grad(theta, tol=1e-10)
        off = sum(
            float((found.grad[k].double() - truth.grad[k]).square().sum()) for k in truth.grad
        )
        assert off**0.5 <= found.error * (1 + 1e-9) + truth.error, (seed, off**0.5, found.error)
    assert claimed >= BLOCK // 2
