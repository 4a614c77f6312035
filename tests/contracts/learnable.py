"""Random problems whose operator or sampling mask is learned, with exact hypergradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model.fidelities import Fidelity, KullbackLeibler, SampledL2, SquaredL2
from bilevel.model.operators import (
    Convolution,
    Downsampling,
    FourierMask,
    GaussianBlur,
    MultiCoil,
    Operator,
)
from bilevel.model.operators.boundary import Boundary
from contracts.bounds import Known, known_of
from contracts.regularisers import CHANNELS, FURTHER
from contracts.zoo import REGULARISERS, SHAPE, Random, completed, kernel, log_uniform, uniform

BOUNDARIES: tuple[Boundary, ...] = ("circular", "zero", "reflecting", "valid")
COUPLED = tuple(name for name in FURTHER if "coupled" in name)


def pick(rng: Random, count: int) -> int:
    return int(torch.randint(count, (), generator=rng))


def width(rng: Random) -> Operator:
    side = (3, 5)[pick(rng, 2)]
    boundary = BOUNDARIES[pick(rng, 4)]
    return GaussianBlur(uniform(rng, 0.3, 0.5 * side), side, boundary, learn=("sigma",))


def simplex(rng: Random) -> Operator:
    size, boundary = (pick(rng, 3) + 1, pick(rng, 4) + 2), BOUNDARIES[pick(rng, 4)]
    taps = kernel(rng, *size) * uniform(rng, 0.5, 2.0)
    return Convolution(taps, boundary, learn=("kernel",), simplex=True)


def lowered(rng: Random) -> Operator:
    return Downsampling(2) @ GaussianBlur(uniform(rng, 0.3, 2.0), 5, "zero", learn=("sigma",))


def squared(operator: Operator, rng: Random) -> Fidelity:
    return SquaredL2(operator, log_uniform(rng, -0.5, 0.5), learn=("weight",))


def of_counts(operator: Operator, rng: Random) -> Fidelity:
    return KullbackLeibler(operator, uniform(rng, 0.1, 1.0), learn=("weight",))


def sampled(operator: Operator, rng: Random) -> Fidelity:
    """Columns, rows or points, some kept; weights here and there at 0 or 1."""
    size = [(1, 8), (6, 1), (6, 8)][pick(rng, 3)]
    mask = torch.rand(size, generator=rng) ** 2 * 2
    kept = torch.rand(size, generator=rng) < 0.2
    count = int(kept.sum())
    budget = count + uniform(rng, 0.2, 0.8) * (kept.numel() - count)
    weight = log_uniform(rng, -0.5, 0.5)
    return SampledL2(operator, mask, kept, budget, weight, learn=("mask", "weight"))


def free(rng: Random) -> Operator:
    return Convolution(kernel(rng, 3, 3), BOUNDARIES[pick(rng, 4)], learn=("kernel",))


def coils(rng: Random) -> Operator:
    maps = torch.complex(*torch.randn(2, 2, *SHAPE[1:], generator=rng)) / 2
    return MultiCoil(torch.ones(SHAPE[1:]), maps)


KINDS: dict[str, Callable[[Random], Fidelity]] = {
    "width": lambda rng: squared(width(rng), rng),
    "simplex": lambda rng: squared(simplex(rng), rng),
    "mask": lambda rng: sampled(FourierMask(torch.ones(SHAPE[1:])), rng),
    "mask of coils": lambda rng: sampled(coils(rng), rng),
    "width, then fewer pixels": lambda rng: squared(lowered(rng), rng),
    "width of counts": lambda rng: of_counts(width(rng), rng),
    "kernel of counts": lambda rng: of_counts(free(rng), rng),
    "kernel of coarser pixels": lambda rng: squared(
        Downsampling(2, kernel(rng, 3, 3), learn=("kernel",)), rng
    ),
}


def problem(seed: int) -> Known:
    """All kinds in turn, each in float64 and float32 in turn, with any regulariser and loss."""
    rng, kind = generator(seed, "learnable"), list(KINDS)[seed % len(KINDS)]
    dtype = torch.float32 if (seed // len(KINDS)) % 2 else torch.float64
    fidelity, shape = KINDS[kind](rng), SHAPE
    if kind == "mask of coils":
        regulariser, shape = FURTHER[COUPLED[pick(rng, len(COUPLED))]](rng), CHANNELS
    else:
        regulariser = list(REGULARISERS.values())[pick(rng, len(REGULARISERS))](rng)
    case = completed(fidelity, regulariser, rng, dtype, (1, *shape))
    if isinstance(fidelity, KullbackLeibler):
        case = replace(case, y=case.y.clamp_min(0.0))
    loss = bl.losses.SquaredError() if pick(rng, 3) else bl.losses.PSNR()
    return known_of(case, loss)
