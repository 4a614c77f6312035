"""Situations in which a rule may be misled, and ordinary ones in which it must not say so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.select import Choice, Outcome, Rule
from bilevel.select.degrees import Degrees

PICTURES = ("camera", "brick", "cell", "astronaut")
LOST = 1.0
"""So many dB below the best weight are too many for a FOUND."""


@dataclass(frozen=True)
class Situation:
    """Data, the truth, and the noise level that the rule is told."""

    name: str
    truth: Tensor
    y: Tensor
    sigma: float


def picture(name: str, size: int) -> Tensor:
    return bl.data.centre_crop(bl.data.embedded_image(name), (size, size))


def white(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=generator(seed, "noise"))


def blurred(noise: Tensor, width: float) -> Tensor:
    """Of one variance again."""
    half = int(4 * width) + 1
    t = torch.arange(-half, half + 1).float()
    line = torch.exp(-0.5 * (t / width).square())
    kernel = line[:, None] * line / line.sum() ** 2
    smooth = bl.operators.Convolution(kernel, "circular")(noise)
    return smooth / smooth.std()


def ordinary(size: int = 64, levels: tuple[float, ...] = (0.05, 0.1, 0.2)) -> Iterator[Situation]:
    for k, name in enumerate(PICTURES):
        x = picture(name, size)
        for level in levels:
            yield Situation(f"{name} {level}", x, x + level * white(x, k), level)


def hard(size: int = 64) -> Iterator[Situation]:
    for k, name in enumerate(PICTURES[:3]):
        x = picture(name, size)
        noise = white(x, 10 + k)
        for width in (0.7, 1.5):
            coloured = 0.1 * blurred(noise, width)
            yield Situation(f"{name}, noise blurred by {width}", x, x + coloured, 0.1)
        yield Situation(f"{name}, noiseless", x, x, 0.05)
        yield Situation(f"{name}, sigma 3 times too large", x, x + 0.07 * noise, 0.21)
        yield Situation(f"{name}, sigma 3 times too small", x, x + 0.15 * noise, 0.05)
        lines = white(x[..., :1], 20 + k).expand_as(x)
        yield Situation(f"{name}, lines", x, x + 0.1 * lines, 0.1)
        salt = (white(x, 30 + k).abs() > 1.9) * noise.sign()
        yield Situation(f"{name}, impulses", x, (x + salt).clamp(0, 1), 0.2)
    x = picture("camera", size)
    coarse = (x * 5).round() / 5
    yield Situation("six grey values", x, coarse, 0.06)
    yield Situation("sigma 10 times too large", x, x + 0.03 * white(x, 3), 0.3)
    flat = torch.full_like(x, 0.5)
    yield Situation("flat", flat, flat + 0.1 * white(x, 40), 0.1)
    yield Situation("flat, strong noise", flat, flat + 0.5 * white(x, 41), 0.5)
    yield Situation("flat, noiseless", flat, flat, 0.1)


def tiny() -> Iterator[Situation]:
    for k, name in enumerate(PICTURES):
        x = picture(name, 8)
        yield Situation(f"{name} 8x8", x, x + 0.1 * white(x, 50 + k), 0.1)


def rules(sigma: Tensor, estimated: Tensor) -> dict[str, Rule]:
    r = bl.rules
    return {
        "sure": r.SURE(sigma),
        "sure, estimated": r.SURE(estimated),
        "predicted risk": r.PredictedRisk(sigma, Degrees(probes=2, seed=5)),
        "discrepancy": r.Discrepancy(sigma),
        "corrected": r.Discrepancy(sigma, corrected=True),
        "gaussianity": r.Gaussianity(sigma),
        "gcv": r.GCV(),
        "robust gcv": r.GCV(robustness=0.5),
        "whiteness": r.Whiteness(),
        "hold-out": r.HoldOut(),
        "l-curve": r.LCurve(),
        "quasi-optimality": r.QuasiOptimality(),
    }


def energy() -> bl.Variational:
    return bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(1.0, 0.01))


def loss(choice: Choice, best: Choice, truth: Tensor) -> Tensor:
    """In dB, row by row; noise below 1e-4 of the peak counts as none."""
    here, there = (
        (c.x - truth).double().square().flatten(1).mean(1).clamp_min(1e-8) for c in (choice, best)
    )
    return 10 * (here / there).log10()


def results(
    situations: list[Situation], names: tuple[str, ...] | None = None
) -> Iterator[tuple[str, str, Outcome, float, str]]:
    """(rule, situation, outcome, dB lost against the best weight, advice), all of one size."""
    y, truth = (torch.cat([getattr(s, part) for s in situations]) for part in ("y", "truth"))
    sigma = torch.tensor([s.sigma for s in situations], dtype=torch.float64)
    best = bl.select(energy(), y, bl.rules.Oracle(truth))
    estimated = bl.data.noise_level(y).clamp_min(1e-3)
    for name, rule in rules(sigma, estimated).items():
        if names is not None and name not in names:
            continue
        choice = bl.select(energy(), y, rule)
        lost = loss(choice, best, truth)
        for k, s in enumerate(situations):
            yield name, s.name, choice.outcome[k], float(lost[k]), choice.advice[k]
