"""Mixed noise: learned infimal convolutions and sums of fidelities against each fidelity alone.

    python benchmarks/mixed_noise.py [--quick] [--train N] [--test N] [--side N] [--steps N]

Denoising of crops of BSDS500, weights learned on the images for training, PSNR on those for
testing (Calatroni, De los Reyes, Schönlieb 2017). Two kinds of noise: Gaussian (σ = 0.05) with 10 %
salt and pepper; and photons (30 at grey value 1) with read noise of 1.5 photons. The loss is minus
the PSNR, whose mean is what is compared: that of squared errors would look at the images on which
all models are poor.

The regulariser is total variation, smoothed at 0.01, of weight 1: it takes the redundant factor,
and all weights of the fidelities are learned, by L-BFGS from one start each. Absolute values are
smoothed at 0.01, too. The divergence of counts is shifted by σ²/gain, so that it is defined for
data below 0. Beside them what else is in use: squares weighted with the variance a u + σ², u from
the data; the generalised Anscombe transform; Student's t; the smooth form of the Huber function.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from common import data_folder, parser, save, table
from torch import Tensor
from torch.nn.functional import avg_pool2d

import bilevel as bl

F = bl.fidelities
WEIGHT = ("weight",)
SMOOTHING = 0.01
RESIDUAL = 1e-3
"""Rms of the gradient at reconstructions, in energies whose curvature is about 10 to 100."""
SIGMA, SHARE = 0.05, 0.1
PEAK, READ = 30.0, 1.5
GAIN, READ_NOISE = 1 / PEAK, READ / PEAK
SHIFT = READ_NOISE**2 / GAIN


@dataclass(frozen=True)
class Model:
    """A fidelity, what is done to the data first, and how it takes part in the comparison."""

    build: Callable[[], F.DataTerm]
    role: str
    prepare: Callable[[Tensor], Tensor] = lambda y: y


def standardised(y: Tensor) -> Tensor:
    """Data over their deviation √(gain u + σ²), u a mean of 3x3 data, and one over it as masks."""
    u = avg_pool2d(y, 3, 1, 1, count_include_pad=False).clamp_min(0.0)
    trust = (GAIN * u + READ_NOISE**2).rsqrt()
    return F.Masked.data(trust * y, trust)


def above_shift(y: Tensor) -> Tensor:
    """Nothing below -σ²/gain."""
    return y.clamp_min(-SHIFT)


IMPULSES = {
    "squares": Model(lambda: F.SquaredL2(weight=10.0, learn=WEIGHT), "pure"),
    "absolute values": Model(lambda: F.SmoothedL1(None, 1.0, SMOOTHING, learn=WEIGHT), "pure"),
    "infimal convolution": Model(
        lambda: F.GaussianImpulse(None, 10.0, 1.0, learn=("gaussian", "impulse")), "mixed"
    ),
    "sum": Model(
        lambda: (
            F.SmoothedL1(None, 1.0, SMOOTHING, learn=WEIGHT) + F.SquaredL2(weight=2.0, learn=WEIGHT)
        ),
        "mixed",
    ),
    "smooth infimal convolution": Model(
        lambda: F.SmoothedL1(None, 1.0, 0.1, learn=("weight", "smoothing")), "other"
    ),
    "Student's t": Model(lambda: F.StudentT(None, 0.1, 10.0, learn=("weight", "scale")), "other"),
}
PHOTONS = {
    "squares": Model(lambda: F.SquaredL2(weight=20.0, learn=WEIGHT), "pure"),
    "divergence, shifted": Model(
        lambda: F.KullbackLeibler(None, SHIFT, 5.0, learn=WEIGHT), "pure", above_shift
    ),
    "infimal convolution": Model(
        lambda: F.GaussianPoisson(None, 80.0, 6.0, SHIFT, learn=("gaussian", "poisson")), "mixed"
    ),
    "sum": Model(
        lambda: (
            F.KullbackLeibler(None, SHIFT, 4.0, learn=WEIGHT)
            + F.SquaredL2(weight=5.0, learn=WEIGHT)
        ),
        "mixed",
        above_shift,
    ),
    "weighted squares": Model(
        lambda: F.Masked(F.SquaredL2(weight=0.2, learn=WEIGHT)), "other", standardised
    ),
    "Anscombe": Model(
        lambda: F.Anscombe(None, GAIN, READ_NOISE, 0.2, learn=WEIGHT),
        "other",
        lambda y: y.clamp_min(-SHIFT - 3 / 8 * GAIN),
    ),
}
KINDS: dict[str, tuple[bl.data.Noise, dict[str, Model]]] = {
    "Gaussian and impulse": (bl.data.ImpulseNoise(SHARE, SIGMA), IMPULSES),
    "Gaussian and Poisson": (bl.data.PoissonGaussianNoise(GAIN, READ_NOISE), PHOTONS),
}


def images(folder: Path, count: int, side: int) -> tuple[Tensor, tuple[str, ...]]:
    """One crop of each of the first images, (count, 1, side, side)."""
    files = sorted(folder.glob("*.png"))[:count]
    return bl.data.crops(bl.data.Files(files, grey=True), side, len(files), seed=0)


def learned(model: Model, pairs: bl.data.Pairs, steps: int) -> bl.Fit:
    """Its weights, from the training pairs."""
    own = bl.data.Pairs(model.prepare(pairs.y), pairs.target, pairs.ids)
    tv = bl.regularisers.TotalVariation(1.0, SMOOTHING, learn=())
    problem = bl.BilevelProblem(bl.Variational(model.build(), tv), bl.losses.PSNR(), own)
    return bl.learn(problem, bl.algorithms.LBFGS(), budget=bl.Budget(steps=steps))


def psnr(x: Tensor, target: Tensor) -> np.ndarray:
    """Of each image, white at 1 [dB]."""
    error = (x - target).double().square().flatten(1).mean(1)
    return (-10 * error.log10()).numpy()


def compared(
    models: dict[str, Model], train: bl.data.Pairs, test: bl.data.Pairs, steps: int
) -> dict[str, dict[str, Any]]:
    """Weights, costs and PSNR of all models."""
    found: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        began = time.monotonic()
        fit = learned(model, train, steps)
        solution = fit.reconstruct(model.prepare(test.y), bl.Tolerance(residual=RESIDUAL))
        level = psnr(solution.x, test.target)
        weights = {
            key.removeprefix("fidelity.").replace("log_", ""): float(value.exp())
            for key, value in fit.theta.items()
        }
        found[name] = {
            "role": model.role,
            "psnr": level.tolist(),
            "training psnr": fit.history[-1].psnr,
            "weights": weights,
            "converged": int(solution.converged.sum()),
            "status": fit.status.name,
            "steps": len(fit.history) - 1,
            "seconds": round(time.monotonic() - began, 1),
        }
        rounded = {key: float(f"{value:.3g}") for key, value in weights.items()}
        print(f"{name}: {level.mean():.3f} dB, {rounded}, {found[name]['seconds']} s", flush=True)
    return found


def gain(a: list[float], b: list[float]) -> tuple[float, float]:
    """The mean of a - b, image by image, and its standard error."""
    difference = np.array(a) - np.array(b)
    return float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)


def limits(pairs: bl.data.Pairs) -> dict[str, float]:
    """How far infimal convolutions with one weight of 1e10 are from the other fidelity alone."""
    x, y = pairs.target.double(), pairs.y.double()
    mixtures: dict[str, tuple[F.DataTerm, F.DataTerm]] = {
        "λ impulse → ∞": (F.GaussianImpulse(None, 3.0, 1e10), F.SquaredL2(weight=3.0)),
        "λ Gaussian → ∞, impulses": (F.GaussianImpulse(None, 1e10, 3.0), F.L1(weight=3.0)),
        "λ Poisson → ∞": (F.GaussianPoisson(None, 3.0, 1e10, SHIFT), F.SquaredL2(weight=3.0)),
        "λ Gaussian → ∞, photons": (
            F.GaussianPoisson(None, 1e10, 3.0, SHIFT),
            F.KullbackLeibler(None, SHIFT, 3.0),
        ),
    }
    found: dict[str, float] = {}
    for name, (mixed, pure) in mixtures.items():
        data = y.clamp_min(-SHIFT + 1e-3) if "photons" in name else y
        with torch.no_grad():
            a, b = (term.double()(x, data) for term in (mixed, pure))
        found[name] = float(((a - b).abs() / b).max())
    return found


def described(kind: str, found: dict[str, dict[str, Any]]) -> str:
    """A table of one kind of noise: each model, and the gain of the mixtures over it."""
    mixed = [name for name, own in found.items() if own["role"] == "mixed"]
    lines: list[list[str]] = []
    for name, own in found.items():
        cells = [name, f"{np.mean(own['psnr']):.3f}"]
        for mixture in mixed:
            mean, error = gain(found[mixture]["psnr"], own["psnr"])
            cells.append("" if mixture == name else f"{mean:+.3f} ± {error:.3f}")
        weights = ", ".join(f"{key} {value:.3g}" for key, value in own["weights"].items())
        lines.append([*cells, weights])
    header = ["fidelity", "PSNR", *[f"gain of {name}" for name in mixed], "learned"]
    return f"## {kind}\n\n{table(header, lines)}\n\n{verdict(found)}"


def verdict(found: dict[str, dict[str, Any]]) -> str:
    """By how many standard errors the infimal convolution beats each fidelity alone."""
    own = found["infimal convolution"]["psnr"]
    pure = {name: gain(own, one["psnr"]) for name, one in found.items() if one["role"] == "pure"}
    told = [f"{name} by {mean:.3f} dB, {mean / error:.1f}" for name, (mean, error) in pure.items()]
    return f"The infimal convolution beats {' and '.join(told)} standard errors."


def main(given: Sequence[str] | None = None) -> None:
    """Learn, compare, and say whether mixtures win."""
    options = parser(__doc__ or "")
    options.add_argument("--quick", action="store_true", help="few small crops, few steps")
    options.add_argument("--train", type=int, help="images to learn from; 20, quick 4")
    options.add_argument("--test", type=int, help="images held out; 20, quick 4")
    options.add_argument("--side", type=int, help="of their crops [pixel]; 96, quick 32")
    options.add_argument("--steps", type=int, help="of L-BFGS at most; 20, quick 6")
    chosen = options.parse_args(given)
    torch.set_num_threads(chosen.threads)
    usual = (4, 4, 32, 6) if chosen.quick else (20, 20, 96, 20)
    asked = (chosen.train, chosen.test, chosen.side, chosen.steps)
    train, test, side, steps = (u if a is None else a for u, a in zip(usual, asked, strict=True))
    folder = data_folder(chosen) / "bsds500"
    clean = {part: images(folder / part, n, side) for part, n in (("train", train), ("test", test))}
    texts, numbers = [], dict[str, Any]()
    for kind, (noise, models) in KINDS.items():
        print(f"{kind}:", flush=True)
        pairs = {
            part: bl.data.simulate(x, bl.operators.Identity(), noise, seed=0, ids=ids)
            for part, (x, ids) in clean.items()
        }
        found = compared(models, pairs["train"], pairs["test"], steps)
        data = psnr(pairs["test"].y, pairs["test"].target)
        numbers[kind] = {"data": data.tolist(), "models": found, "limits": limits(pairs["test"])}
        texts.append(described(kind, found))
    worst = max(value for own in numbers.values() for value in own["limits"].values())
    notes = (
        f"PSNR [dB] of {test} crops of {side}x{side} pixels of BSDS500 test, weights learned on "
        f"{train} of BSDS500 train; gains are means over the crops, ± their standard error. "
        "Infimal convolutions with one weight of 1e10 are the other fidelity alone up to "
        f"{worst:.1e}."
    )
    save("mixed_noise", "\n\n".join([*texts, notes]), numbers)


if __name__ == "__main__":
    main()
