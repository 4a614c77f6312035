"""Energies that ordinary ones leave out, for every contract to list: exactly what walls break on.

An operator with parameters of its own, a state wider than the image, two fidelities, and complex
images as pairs of channels whose total variation is coupled. ``SMOOTH`` ones have a gradient;
``ROUGH`` ones are quadratics with lengths, minimised here by a dense method written anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model.term import parts_of
from contracts.states import ComplexFourier, InfimalConvolution, TwoTaps
from contracts.zoo import Case, Random, dense_hessian, kernel, normal, slope

R, F = bl.regularisers, bl.fidelities
SHAPE, COMPLEX = (1, 5, 6), (2, 5, 6)
DOUBLE = torch.float64


def blur(rng: Random) -> bl.operators.Operator:
    return bl.operators.Convolution(kernel(rng, 3, 3))


def sampling(rng: Random) -> bl.operators.Operator:
    """Weights unlike at a frequency and its opposite: only complex images see each alone."""
    return ComplexFourier(0.3 + 0.9 * torch.rand(SHAPE[1:], generator=rng))


def plain(rng: Random) -> bl.Variational:
    return bl.Variational(F.SquaredL2(blur(rng)), R.TotalVariation(0.1, 0.2) + R.Tikhonov(0.1))


def learnable_operator(rng: Random) -> bl.Variational:
    fidelity = F.SquaredL2(TwoTaps(1.0, -0.3), learn=("weight",))
    return bl.Variational(fidelity, R.TotalVariation(0.1, 0.2) + R.Tikhonov(0.1, learn=()))


def wide(rng: Random) -> bl.Variational:
    parts = InfimalConvolution(0.2, 0.5, 0.3) + R.TotalVariation(0.1, 0.2)
    return bl.Variational(F.SquaredL2(blur(rng)), parts)


def two_fidelities(rng: Random) -> bl.Variational:
    both = F.SquaredL2(weight=0.7, learn=("weight",)) + F.KullbackLeibler(
        background=0.5, weight=0.4, learn=("weight",)
    )
    return bl.Variational(both, R.TotalVariation(0.1, 0.2) + R.Tikhonov(0.1))


def coupled(rng: Random) -> bl.Variational:
    parts = R.TotalVariation(0.1, 0.2, coupled=True) + R.Tikhonov(0.1)
    return bl.Variational(F.SquaredL2(sampling(rng)), parts)


SMOOTH: dict[str, Callable[[Random], bl.Variational]] = {
    "plain": plain,
    "learnable operator": learnable_operator,
    "wide state": wide,
    "two fidelities": two_fidelities,
    "coupled complex": coupled,
}


def make(
    name: str, seed: int = 0, dtype: torch.dtype = DOUBLE, batch: int = 3, scale: float = 1.0
) -> Case:
    """A strongly convex problem; the data of later rows differ more from what is smooth.

    Its numbers fit into float32, so that it is the same problem in both types.
    """
    rng = generator(seed, "situation", name)
    energy = {**SMOOTH, **ROUGH}[name](rng).float().double()
    shape = COMPLEX if "complex" in name else SHAPE
    target = torch.rand(batch, *shape, generator=rng).double()
    with torch.no_grad():
        clean = parts_of(energy.fidelity)[0].operator(target)
    size = 0.1 + 0.2 * torch.arange(batch).double()[:, None, None, None]
    y = (clean + size * normal(rng, *clean.shape).double()).clamp_min(-0.4)
    y, target = (scale * part.float() for part in (y, target))
    return Case(energy.to(dtype), y.to(dtype), target.to(dtype))


@dataclass(frozen=True)
class Length:
    """w Σ_i |(A x - c)_i|, ``matrix`` A (m, n), vectors of ``group`` parts of its rows."""

    matrix: Tensor
    weight: float
    group: int
    centre: Tensor


def differences(c: int, h: int, w: int) -> Tensor:
    """(2 c h w, c h w): all to the next row, then all to the next column."""

    def along(size: int) -> Tensor:
        d = torch.diag(torch.ones(size - 1), 1) - torch.eye(size)
        d[-1] = 0
        return d.double()

    eye = torch.eye(c).double()
    down = torch.kron(eye, torch.kron(along(h), torch.eye(w).double()))
    right = torch.kron(eye, torch.kron(torch.eye(h).double(), along(w)))
    return torch.cat([down, right])


def exact_wide(rng: Random) -> bl.Variational:
    parts = InfimalConvolution(0.2, 0.5, 0.3) + R.ExactTotalVariation(0.1)
    return bl.Variational(F.SquaredL2(blur(rng)), parts)


def exact_coupled(rng: Random) -> bl.Variational:
    parts = R.ExactTotalVariation(0.1, coupled=True) + R.Tikhonov(0.2)
    return bl.Variational(F.SquaredL2(sampling(rng)), parts)


def two_distances(rng: Random) -> bl.Variational:
    return bl.Variational(F.SquaredL2() + F.L1(weight=0.2), R.Tikhonov(0.3))


def absolute_operator(rng: Random) -> bl.Variational:
    fidelity = F.L1(TwoTaps(1.0, -0.3), weight=0.4, learn=("weight",))
    return bl.Variational(fidelity, R.Tikhonov(0.5, learn=()))


ROUGH: dict[str, Callable[[Random], bl.Variational]] = {
    "exact, learnable operator": absolute_operator,
    "exact, wide state": exact_wide,
    "two distances": two_distances,
    "exact, coupled complex": exact_coupled,
}


def lengths_of(name: str, case: Case, row: int) -> tuple[bl.Variational, list[Length]]:
    """The quadratic part of a rough energy, and the rest written as matrices."""
    energy, y = case.energy, case.y[row].flatten().double()
    n, zero = y.numel(), torch.zeros(2 * y.numel(), dtype=DOUBLE)
    eye = torch.eye(n, dtype=DOUBLE)
    if name == "exact, wide state":
        seen = torch.cat([differences(*SHAPE), torch.zeros(2 * n, n, dtype=DOUBLE)], 1)
        smooth = bl.Variational(energy.fidelity, energy.regulariser.parts[0])
        return smooth, [Length(seen, 0.1, 2, zero)]
    if name == "exact, coupled complex":
        smooth = bl.Variational(energy.fidelity, energy.regulariser.parts[1])
        return smooth, [Length(differences(*COMPLEX), 0.1, 4, zero)]
    if name == "two distances":
        smooth = bl.Variational(energy.fidelity.parts[0], energy.regulariser)
        return smooth, [Length(eye, 0.2, 1, y)]
    nothing = F.SquaredL2(bl.operators.Mask(torch.full(SHAPE[1:], 1e-30))).double()
    with torch.no_grad():
        taps = energy.fidelity.operator(eye.reshape(-1, *SHAPE)).flatten(1).T
    return bl.Variational(nothing, energy.regulariser), [Length(taps, 0.4, 1, y)]


def exact(name: str, case: Case, row: int, near: Tensor, steps: int = 2500) -> Tensor:
    """The minimiser of one row by the alternating direction method on dense matrices, float64."""
    smooth, lengths = lengths_of(name, case, row)
    y, zero = case.y[row : row + 1].double(), torch.zeros_like(near[row : row + 1]).double()
    hessian, pull = dense_hessian(smooth, zero, y), slope(smooth, zero, y).flatten()
    gram = torch.stack([part.matrix.T @ part.matrix for part in lengths]).sum(0)
    inverse = torch.linalg.inv(hessian + gram)
    split = [part.matrix @ zero.flatten() for part in lengths]
    dual = [torch.zeros_like(z) for z in split]
    x = zero.flatten()
    for _ in range(steps):
        back = [p.matrix.T @ (z - u) for p, z, u in zip(lengths, split, dual, strict=True)]
        x = inverse @ (torch.stack(back).sum(0) - pull)
        for k, part in enumerate(lengths):
            moved = part.matrix @ x + dual[k]
            vectors = (moved - part.centre).reshape(part.group, -1)
            size = vectors.norm(dim=0).clamp_min(1e-300)
            shrunk = vectors * (1 - part.weight / size).clamp_min(0.0)
            split[k] = shrunk.flatten() + part.centre
            dual[k] = moved - split[k]
    return x.reshape(zero.shape)
