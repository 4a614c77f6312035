"""More random problems: learnable operators, boxes, dual terms, wide states, and wells."""

from __future__ import annotations

from collections.abc import Callable

import torch

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model.fidelities import KullbackLeibler
from bilevel.model.regularisers import ImageTerm
from contracts import composites, learnable
from contracts.drawn import Drawn, finished, in_unit, loss_of, unit
from contracts.learnable import pick
from contracts.regularisers import CHANNELS, FURTHER
from contracts.zoo import REGULARISERS, SHAPE, Random, kernel, log_uniform, normal

F, R = bl.fidelities, bl.regularisers
WEAK = ("foe student-t", "foe radial basis", "foe spline", "directional concave", "foe root")
"""Weakly convex ones, not held back by any ridge."""


def operator(seed: int) -> Drawn:
    """A blur, a kernel or a sampling mask is learned."""
    kinds = list(learnable.KINDS)
    rng, kind = generator(seed, "thousand operators"), kinds[seed % len(kinds)]
    fidelity, shape, s = learnable.KINDS[kind](rng), SHAPE, unit(rng)
    if "counts" in kind:
        s = 1.0  # the background is in the unit of the data
    if kind == "mask of coils":
        coupled = list(learnable.COUPLED)
        name, shape = coupled[pick(rng, len(coupled))], CHANNELS
        inner = FURTHER[name](rng)
    else:
        name = list(REGULARISERS)[pick(rng, len(REGULARISERS))]
        inner = REGULARISERS[name](rng)
    target = torch.rand(1, *shape, generator=rng)
    with torch.no_grad():
        clean = fidelity.operator(target)
    y = clean + 0.1 * normal(rng, *clean.shape)
    y = s * (y.clamp_min(0.0) if isinstance(fidelity, KullbackLeibler) else y)
    regulariser = in_unit(inner, fidelity, y, s, rng)
    of_loss, loss = loss_of(shape, s, rng)
    title = f"{name} | learned {kind} | {of_loss}"
    single = bool((seed // len(kinds)) % 2)
    return finished(single, title, fidelity, regulariser, y, s * target, loss, s, rng)


def composite(seed: int) -> Drawn:
    """A box, a sparsity, an L1 fidelity."""
    rng, kind = generator(seed, "thousand composites"), composites.KINDS[seed % 5]
    smooth = composites.SMOOTH[(seed // 5) % 5]
    case = composites.make(kind, smooth, int(torch.randint(1_000_000, (), generator=rng)))
    dtype = torch.float32 if (seed // 25) % 2 else torch.float64
    y, target = case.y.to(dtype), case.target.to(dtype)
    of_loss, loss = loss_of(SHAPE, 1.0, rng)
    return Drawn(f"{kind}, {smooth} | {of_loss}", case.energy.to(dtype), y, target, loss, 1.0, rng)


def second_order(
    kind: type, smooth: bool, **options: object
) -> Callable[[Random, float], ImageTerm]:
    def made(rng: Random, s: float) -> ImageTerm:
        ends = ((-1.5, -0.3), (-0.7, 0.7), (-2, -0.7))
        weight, ratio, smoothing = (log_uniform(rng, *end) for end in ends)
        numbers = (s * weight, ratio, s * smoothing) if smooth else (s * weight, ratio)
        return kind(*numbers, **options)

    return made


WIDE: dict[str, Callable[[Random, float], ImageTerm]] = {
    f"{name}{' ' + potential}{' coupled' * coupled}": second_order(
        kind, True, potential=potential, coupled=coupled
    )
    for name, kind in (("tgv", R.TotalGeneralisedVariation), ("ictv", R.InfimalConvolutionTV))
    for potential in ("huber", "charbonnier")
    for coupled in (False, True)
}


def tv(**options: object) -> Callable[[Random, float], ImageTerm]:
    return lambda rng, s: R.ExactTotalVariation(s * log_uniform(rng, -2, -0.3), **options)  # type: ignore[arg-type]


EXACT: dict[str, Callable[[Random, float], ImageTerm]] = {
    "tv": tv(),
    "tv anisotropic": tv(isotropic=False),
    "tv coupled": tv(coupled=True),
    "tv map": lambda rng, s: R.ExactTotalVariation(
        s * (0.02 + 0.2 * torch.rand(6, 6, generator=rng))
    ),
    "directional": lambda rng, s: R.ExactDirectionalTV(
        s * log_uniform(rng, -2, -0.3), angle=30.0, anisotropy=3.0, learn=("weight", "direction")
    ),
    "directional map": lambda rng, s: R.ExactDirectionalTV(
        s * (0.02 + 0.2 * torch.rand(6, 6, generator=rng)),
        angle=180 * torch.rand(6, 6, generator=rng) - 90,
        anisotropy=1 + 4 * torch.rand(6, 6, generator=rng),
    ),
    "wavelets": lambda rng, s: R.ExactWaveletSparsity(
        s * 0.2 * torch.rand(3, generator=rng), levels=1
    ),
    "tgv": second_order(R.ExactTotalGeneralisedVariation, False),
    "tgv coupled": second_order(R.ExactTotalGeneralisedVariation, False, coupled=True),
    "ictv": second_order(R.ExactInfimalConvolutionTV, False),
    "L1": lambda rng, s: R.Tikhonov(log_uniform(rng, -1, 0) / s),
    "L1 and tv": lambda rng, s: (
        R.Tikhonov(log_uniform(rng, -1, 0) / s) + R.ExactTotalVariation(log_uniform(rng, -2, -0.3))
    ),
}


def of_kinds(kinds: dict[str, Callable[[Random, float], ImageTerm]], seed: int) -> Drawn:
    """Denoising, or a blur, with a ridge of the image at times; an edge and a ramp."""
    rng, name = generator(seed, "thousand states"), list(kinds)[seed % len(kinds)]
    s, dtype = unit(rng), torch.float32 if (seed // len(kinds)) % 2 else torch.float64
    side = 6
    regulariser = kinds[name](rng, s)
    images, weight = 1 + ("coupled" in name), log_uniform(rng, -0.5, 0.5)
    blur = bl.operators.Convolution(kernel(rng, 3, 3))
    absolute = "L1" in name
    if absolute:
        fidelity = F.L1(blur, weight, learn=("weight",))
    elif pick(rng, 2):
        fidelity = F.SquaredL2(weight=weight, learn=("weight",))
    else:
        fidelity = F.SquaredL2(blur, weight, learn=("weight",))
        regulariser = regulariser + R.Tikhonov(log_uniform(rng, -1.5, 0))
    places = torch.arange(side)
    target = (places / side + 1.0 * (places > 2)[:, None]).expand(1, images, side, side)
    target = s * target.clone()
    y = target + 0.2 * s * normal(rng, 1, images, side, side)
    of_loss, loss = loss_of((images, side, side), s, rng)
    energy = bl.Variational(fidelity, regulariser).to(dtype)
    title = f"{name} | {'absolute' if absolute else 'squared'} | {of_loss}"
    return Drawn(title, energy, y.to(dtype), target.to(dtype), loss, s, rng)


def wells(seed: int) -> Drawn:
    """Not convex: several minimisers, of which the one nearby is told."""
    rng, name = generator(seed, "thousand wells"), WEAK[seed % len(WEAK)]
    dtype = torch.float32 if (seed // len(WEAK)) % 2 else torch.float64
    s = unit(rng)
    inner = REGULARISERS[name](rng)
    y = s * torch.rand(1, *SHAPE, generator=rng)
    strength = log_uniform(rng, 0, 1.5)
    energy = bl.Variational(F.SquaredL2(learn=("weight",)), R.Rescaled(inner, strength, 1 / s))
    of_loss, loss = loss_of(SHAPE, s, rng)
    target = y + 0.1 * s * normal(rng, *y.shape)
    title = f"wells of {name} | {of_loss}"
    return Drawn(title, energy.to(dtype), y.to(dtype), target.to(dtype), loss, s, rng)
