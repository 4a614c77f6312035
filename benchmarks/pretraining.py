"""Starts of a ridge regulariser without the lower level, and what bilevel learning adds to them.

    python benchmarks/pretraining.py --data DIR [--quick] [--convex]

From random filters: score matching for five minutes, or adversarial regularisation for as long;
then two numbers (scale and sharpness, or weight and scale) fitted to noise of 0.1, from potentials
as wide in units of the noise on; then ten minutes of bilevel learning from the score-matched start.
The weight of a weakly convex ridge stays 1, so that denoising stays convex, but for adversarial
training, which says nothing of it.

Crops of the first 360 images of DIR/bsds500 (by path); judged on the last 40: one-step denoising on
their 321 x 321 centres at σ = 0.03, where the loss of Hertrich et al. 2025 was logged (34.80 dB
after 440 steps of 16 crops of 128 x 128, 34.93 after 880, 35.01 after 6600), and reconstructions of
their 128 x 128 centres at σ = 0.1.
``--quick`` takes a twentieth of the time and every fifth image.
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import data_folder, parser, save, table
from torch import Tensor

import bilevel as bl
from bilevel.ground.memory import keep_freed_memory
from bilevel.ground.randomness import generator
from bilevel.learn import Accuracy
from bilevel.model.regularisers.cascade import analyse, synthesise

NOISE, SIDE, BORDER = 0.03, 321, 6
LEVEL, CROP, SMALL, FEW = 0.1, 128, 96, 8
MINUTES = {"score": 5.0, "adversarial": 5.0, "fit": 1.5, "bilevel": 10.0}
LAYERS = (1, 4, 8, 64)


def start(learn: Sequence[str], *, weakly_convex: bool, seed: int = 0) -> bl.Variational:
    """Filters as PyTorch's convolutions start, their norm on a periodic grid divided out.

    ``learn`` is of weight and scale; the filters and their profile are learned beside them.
    """
    rng, banks = generator(seed, "ridge"), list[Tensor]()
    for c, m in pairwise(LAYERS):
        banks.append((2 * torch.rand(m, c, 5, 5, generator=rng) - 1) / math.sqrt(25 * c))
    banks[0] -= banks[0].mean((2, 3), keepdim=True)
    ridge = bl.regularisers.RidgeRegulariser(
        banks,
        weight=1.0,
        sharpness=math.exp(4.0),
        scaling=20.0,
        weakly_convex=weakly_convex,
        norm=norm(banks),
        learn=("filters", "scaling", "sharpness"),
    )
    return bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Rescaled(ridge, learn=learn))


def norm(banks: list[Tensor], side: int = 256) -> float:
    """The largest value of the transfer function of WᵀW on a grid, its square root."""
    pixel = torch.zeros(1, 1, side, side)
    pixel[..., side // 2, side // 2] = 1
    response = synthesise(banks, analyse(banks, pixel))
    return float(torch.fft.fft2(response).abs().max().sqrt())


def one_step(ridge: bl.regularisers.Regulariser, images: list[Tensor]) -> float:
    """Mean PSNR [dB] of y - ∇R(y)."""
    found: list[float] = []
    for k, x in enumerate(images):
        rng = generator(k, "validation")
        y = x + NOISE * torch.randn(x.shape, generator=rng)
        with torch.no_grad():
            error = (y - ridge.grad(y) - x).square().mean()
        found.append(-10 * math.log10(float(error)))
    return sum(found) / len(found)


def reconstructed(fit: bl.Fit, images: list[Tensor]) -> float:
    """Mean PSNR [dB] of reconstructions at noise of LEVEL."""
    clean = torch.cat(images)
    pairs = bl.data.simulate(clean, bl.operators.Identity(), bl.data.GaussianNoise(LEVEL))
    batch = next(iter(pairs.batches(torch.arange(len(clean)), len(clean))))
    found = fit.reconstruct(batch.y)
    error = (found.x - clean).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


class Course:
    """Stages of learning one model, and what each of them reached."""

    def __init__(self, chosen: Namespace) -> None:
        """Images to learn from and to judge on."""
        folder, every = data_folder(chosen) / "bsds500", 5 if chosen.quick else 1
        paths = sorted(folder.glob("t*/*.png"))
        images = [
            bl.data.load_image(p, grey=True) for p in (*paths[:360:every], *paths[360::every])
        ]
        held = -(-40 // every)
        self.wide = [bl.data.centre_crop(x, SIDE) for x in images[-held:]]
        self.crops = [bl.data.centre_crop(x, CROP) for x in images[-held:]]
        self.lying = [x if x.shape[2] < x.shape[3] else x.mT for x in images[:-held]]
        self.seconds = {what: 60 * m / (20 if chosen.quick else 1) for what, m in MINUTES.items()}
        self.rows: list[list[str]] = []
        self.numbers: dict[str, Any] = {}

    def problem(self, energy: bl.Variational, size: int | None, count: int) -> bl.BilevelProblem:
        """On whole images, or on so many crops."""
        noise, identity = bl.data.GaussianNoise(LEVEL), bl.operators.Identity()
        named = [(str(k), x) for k, x in enumerate(self.lying)]
        samples = (
            bl.data.simulate(torch.cat(self.lying), identity, noise)
            if size is None
            else bl.data.Simulated(named, identity, noise, size=size, count=count)
        )
        store = bl.data.Nowhere() if count > 100 else None
        return bl.BilevelProblem(energy, bl.losses.SquaredError(), samples, store=store)

    def ended(self, what: str, fit: bl.Fit, *, one: bool = False) -> bl.Fit:
        """Judge the end of a stage."""
        energy = fit.energy
        step = one_step(energy.regulariser, self.wide) if one else None  # type: ignore[arg-type]
        whole = None if one else reconstructed(fit, self.crops)
        steps, seconds = len(fit.history) - 1, fit.cost.seconds
        self.numbers[what] = {"steps": steps, "seconds": seconds, "one_step": step, "psnr": whole}
        shown = ["" if value is None else f"{value:.2f}" for value in (step, whole)]
        self.rows.append([what, str(steps), f"{seconds:.0f}", *shown])
        print(*self.rows[-1], flush=True)
        return fit


def main() -> None:
    """Both starts, the fit after each, and bilevel learning."""
    options = parser(__doc__ or "")
    options.add_argument("--quick", action="store_true", help="a twentieth of the time")
    options.add_argument("--convex", action="store_true", help="the convex profile")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    course = Course(chosen)
    scale, inner = "regulariser.log_scale", "regulariser.regulariser.log_sharpness"
    weight, both = "regulariser.log_weight", ("weight", "scale")
    fixed = both if chosen.convex else ("scale",)
    score = bl.pretraining.ScoreMatching(
        noise=NOISE, border=BORDER, batch_size=8, rate=2e-2, decay=0.02
    )
    critic = bl.pretraining.AdversarialRegularisation(rate=1e-2, batch_size=8)
    starts: dict[str, tuple[bl.pretraining.Method, Sequence[str], str]] = {
        "score": (score, fixed, weight if chosen.convex else inner),
        "adversarial": (critic, both, weight),
    }
    for what, (method, learn, other) in starts.items():
        energy = start(learn, weakly_convex=not chosen.convex)
        whole, few = course.problem(energy, None, 0), course.problem(energy, SMALL, FEW)
        fit = bl.pretrain(whole, method, budget=bl.Budget(seconds=course.seconds[what]))
        course.ended(f"{what}", fit, one=what == "score")
        two = bl.pretraining.ScalarFit([scale, other])
        begun = {**fit.theta, **{n: v for n, v in whole.theta.items() if n == weight}}
        if what == "score":
            begun[scale] = begun[scale] + math.log(NOISE / LEVEL)
            begun[inner] = begun[inner] - math.log(NOISE / LEVEL)
        fit = bl.pretrain(few, two, begun, budget=bl.Budget(seconds=course.seconds["fit"]))
        course.ended(f"{what}, two numbers fitted", fit)
        if what == "score":
            adam = bl.algorithms.ISGD(
                batch_size=4, first_change=5e-3, step_power=0.25, accuracy_power=0.1,
                accuracy=Accuracy(first=4e-3), precondition="adam",
            )  # fmt: skip
            many = course.problem(energy, SMALL, 10**6)
            budget = bl.Budget(seconds=course.seconds["bilevel"])
            course.ended("bilevel from there", bl.learn(many, adam, fit.theta, budget=budget))
    header = ["stage", "steps", "seconds", f"one step at {NOISE} [dB]", f"σ = {LEVEL} [dB]"]
    text = table(header, course.rows)
    print(text)
    if not chosen.quick:
        kind = "convex" if chosen.convex else "weakly convex"
        save("pretraining", text, {"profile": kind, "stages": course.numbers})


if __name__ == "__main__":
    main()
