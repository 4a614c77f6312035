"""Random problems of every kind: regulariser, fidelity, operator, loss, size, unit and type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model import Variational
from bilevel.model.fidelities import Fidelity
from bilevel.model.losses import Loss
from bilevel.model.operators import Operator, Shape
from bilevel.model.regularisers import Regulariser
from contracts import fidelities, regularisers
from contracts.learnable import pick
from contracts.zoo import REGULARISERS, SHAPE, Random, kernel, log_uniform, normal, uniform

F, L, Op, R = bl.fidelities, bl.losses, bl.operators, bl.regularisers
SIZES = ((6, 6), (6, 8), (6, 8), (8, 8), (8, 10), (12, 12), (16, 16))
ONE_SIZE = ("map", "splines", "patches")
"""Regularisers whose maps are of images of ``SHAPE``."""
SMOOTH = {
    **REGULARISERS,
    **regularisers.FURTHER,
    **regularisers.LEARNED,
    "sum": lambda rng: REGULARISERS["tv huber"](rng) + REGULARISERS["foe student-t"](rng),
}


@dataclass(frozen=True)
class Drawn:
    """A problem in the type that is tried, and in float64 of the same numbers."""

    name: str
    energy: Variational
    y: Tensor
    target: Tensor
    loss: Loss
    unit: float
    rng: Random


def operators(shape: Shape) -> dict[str, Callable[[Random], Operator]]:
    """Of images (c, h, w); the last ones are for two channels alone."""
    c, h, w = shape
    found: dict[str, Callable[[Random], Operator]] = {
        "identity": lambda rng: Op.Identity(),
        "circular": lambda rng: Op.Convolution(kernel(rng, 3, 3)),
        "zero": lambda rng: Op.Convolution(kernel(rng, 3, 5), boundary="zero"),
        "reflecting": lambda rng: Op.Convolution(kernel(rng, 5, 3), boundary="reflecting"),
        "gaussian": lambda rng: Op.GaussianBlur(uniform(rng, 0.4, 1.5), 5),
        "mask": lambda rng: Op.Mask(torch.rand(h, w, generator=rng) > 0.4),
        "downsampling": lambda rng: Op.Downsampling(2),
        "composition": lambda rng: Op.Downsampling(2) @ Op.Convolution(kernel(rng, 3, 3)),
        "scaled": lambda rng: 0.3 * Op.Convolution(kernel(rng, 3, 3)),
    }
    one: dict[str, Callable[[Random], Operator]] = {
        "radon": lambda rng: Op.Radon((h, w), 5),
        "matrix": lambda rng: Op.Matrix(normal(rng, 20, h * w) / (h * w) ** 0.5, shape),
        "fourier": lambda rng: Op.FourierMask(torch.rand(h, w, generator=rng) > 0.4),
    }
    two: dict[str, Callable[[Random], Operator]] = {
        "coils": lambda rng: Op.MultiCoil(
            torch.rand(h, w, generator=rng) > 0.4, torch.complex(*normal(rng, 2, 3, h, w)) / 2
        )
    }
    return {**found, **(one if c == 1 else two)}


FIDELITIES: dict[str, Callable[[Operator, Random, Shape, float], Fidelity]] = {
    "squared": lambda a, rng, shape, s: fidelities.squared(a, rng),
    "squared, weights": lambda a, rng, shape, s: F.SquaredL2(
        a, log_uniform(rng, -0.5, 0.5), 3 * torch.rand(shape, generator=rng), learn=("weight",)
    ),
    "Kullback-Leibler": lambda a, rng, shape, s: F.KullbackLeibler(
        a, s * log_uniform(rng, -1.5, 0), 0.7, learn=("weight",)
    ),
    "Kullback-Leibler, gain": lambda a, rng, shape, s: F.KullbackLeibler(
        a, s * log_uniform(rng, -1.5, 0), 0.7, log_uniform(rng, -1, 1), learn=("weight",)
    ),
    "Gaussian-Poisson": lambda a, rng, shape, s: F.GaussianPoisson(
        a,
        log_uniform(rng, -1, 2.5) / s,
        log_uniform(rng, -1, 1.5),
        s * log_uniform(rng, -1.5, 0),
        learn=("weight", "gaussian", "poisson"),
    ),
    "Gaussian-impulse": lambda a, rng, shape, s: F.GaussianImpulse(
        a,
        log_uniform(rng, -0.5, 0.5),
        s * log_uniform(rng, -1, 0),
        learn=("weight", "gaussian", "impulse"),
    ),
    "smoothed L1": lambda a, rng, shape, s: F.SmoothedL1(
        a, log_uniform(rng, -0.5, 0.5), s * log_uniform(rng, -2, 0), learn=("weight", "smoothing")
    ),
    "Student's t": lambda a, rng, shape, s: F.StudentT(
        a, s * log_uniform(rng, -1.5, 0), learn=("weight", "scale")
    ),
    "Rician": lambda a, rng, shape, s: F.Rician(
        a, s * log_uniform(rng, -1.5, 0.5), learn=("weight", "sigma")
    ),
    "speckle": lambda a, rng, shape, s: F.Speckle(
        a, s * log_uniform(rng, -1.5, 0), learn=("weight",)
    ),
    "Anscombe": lambda a, rng, shape, s: F.Anscombe(
        a, s * log_uniform(rng, -1.5, 0), s * log_uniform(rng, -1.5, 0), learn=("weight",)
    ),
    "heteroscedastic": lambda a, rng, shape, s: F.HeteroscedasticL2(
        a,
        2 * torch.rand(((), shape[1:], shape)[pick(rng, 3)], generator=rng) + 0.1,
        learn=("weight", "variance"),
    ),
    "sum": lambda a, rng, shape, s: (
        F.SquaredL2(a, 0.5, learn=("weight",))
        + F.SmoothedL1(a, 0.3 * s, 0.1 * s, learn=("weight", "smoothing"))
    ),  # type: ignore[dict-item,return-value]
    "masked": lambda a, rng, shape, s: F.Masked(fidelities.squared(a, rng)),
    "own coils": lambda a, rng, shape, s: F.OwnCoils(fidelities.squared(a, rng)),
}
POSITIVE = ("Kullback-Leibler", "Kullback-Leibler, gain", "Rician", "speckle", "Anscombe")


def losses(shape: Shape, s: float, rng: Random) -> dict[str, Loss]:
    """All whose constant is known, in the unit s."""
    c, h, w = shape
    found: dict[str, Loss] = {
        "squared": L.SquaredError(),
        "psnr": L.PSNR(s),
        "huberised tv": L.HuberisedTV(0.05 * s) + (1e-2 / s) * L.SquaredError(),
        "absolute": L.AbsoluteError(0.05 * s),
        "huber": L.AbsoluteError(0.05 * s, potential="huber"),
        "weighted": L.WeightedError(torch.rand(h, w, generator=rng)),
        "channels": L.TargetChannels(L.PSNR(s), 0, c),
    }
    if c == 2:
        found["magnitude"] = L.MagnitudeError(0.05 * s)
    if min(h, w) >= 11:
        found["ssim"] = L.SSIM(s)
    return found


def unit(rng: Random) -> float:
    """1 in four of ten; 1e-6 to 1e5."""
    return 1.0 if pick(rng, 10) < 4 else log_uniform(rng, -6, 5)


def smooth(seed: int) -> Drawn:
    """All regularisers in turn, with any operator and fidelity, in both types."""
    rng, name = generator(seed, "thousand"), list(SMOOTH)[seed % len(SMOOTH)]
    s, (h, w) = unit(rng), SIZES[pick(rng, len(SIZES))]
    if any(word in name for word in ONE_SIZE):
        h, w = SHAPE[1:]
    wide = name in regularisers.FURTHER and "infimal" not in name
    h, w = min((h, w), (8, 10)) if wide else (h, w)
    shape = (1 + wide, h, w)
    inner = SMOOTH[name](rng)
    known = operators(shape)
    which = list(FIDELITIES)[pick(rng, len(FIDELITIES))] if pick(rng, 2) else "squared"
    if which == "own coils" and not wide:
        which = "masked"
    kind = "coils" if which == "own coils" else list(known)[pick(rng, len(known))]
    a = known[kind](rng)
    fidelity = FIDELITIES[which](a, rng, a.data_shape(shape), s)
    target = torch.rand(1, *shape, generator=rng)
    clean = a(target)
    y = clean + 0.1 * normal(rng, *clean.shape)
    y = s * (y.clamp_min(0.01) if which in POSITIVE else y)
    if which == "masked":
        y = F.Masked.data(y, (torch.rand(y.shape, generator=rng) > 0.3).to(y))
    if which == "own coils":
        maps = torch.complex(*normal(rng, 2, 1, 3, h, w)) / 2
        y = F.OwnCoils.data(y, maps)
    regulariser = inner if pick(rng, 5) == 0 else in_unit(inner, fidelity, y, s, rng)
    found = loss_of(shape, s, rng)
    name = f"{name} | {which} | {kind} | {found[0]}"
    single = bool((seed // len(SMOOTH)) % 2)
    return finished(single, name, fidelity, regulariser, y, s * target, found[1], s, rng)


def loss_of(shape: Shape, s: float, rng: Random) -> tuple[str, Loss]:
    known = losses(shape, s, rng)
    name = list(known)[pick(rng, len(known))]
    return name, known[name]


def stiffness(fidelity: Fidelity, y: Tensor) -> float:
    """L of the fidelity alone."""
    return float(Variational(fidelity, R.Sum([])).bounds(y).lipschitz.max())


def in_unit(
    inner: bl.regularisers.ImageTerm, fidelity: Fidelity, y: Tensor, s: float, rng: Random
) -> bl.regularisers.ImageTerm:
    """Of grey values that are s times as large, about as strong as the fidelity."""
    if not isinstance(inner, Regulariser):
        return R.Sum([in_unit(part, fidelity, y, s, rng) for part in inner.parts])  # type: ignore[attr-defined]
    stiff = stiffness(fidelity, y)
    strength = stiff * log_uniform(rng, -1.5, 0.5) if 0 < stiff < float("inf") else 1.0
    return R.Rescaled(inner, strength, 1 / s)


def finished(
    single: bool,
    name: str,
    fidelity: Fidelity,
    regulariser: bl.regularisers.ImageTerm,
    y: Tensor,
    target: Tensor,
    loss: Loss,
    s: float,
    rng: Random,
) -> Drawn:
    """With a ridge that makes it strongly convex if constants tell so."""
    mu = float(Variational(fidelity, regulariser).bounds(y).mu.min())
    wanted = log_uniform(rng, -2, 0) * stiffness(fidelity, y)
    if mu < wanted and 0 < wanted < float("inf"):
        ridge = wanted if mu == -float("inf") else (wanted - mu) * (1 + 1e-6)
        regulariser = regulariser + R.Tikhonov(ridge, learn=())
    dtype = torch.float32 if single else torch.float64
    energy = Variational(fidelity, regulariser).to(dtype)
    return Drawn(name, energy, y.to(dtype).detach(), target.to(dtype), loss, s, rng)
