"""Score matching of a ridge regulariser from random filters: one-step denoising against time.

    python benchmarks/pretraining.py --data DIR [--quick] [--convex]

Trained on crops of the first 360 images of DIR/bsds500 (by path), looked at on the 321 x 321
centres of the last 40 at σ = 0.03, where the loss of Hertrich et al. 2025 was logged: 34.80 dB
after 440 steps of 16 crops of 128 x 128, 34.93 after 880, 35.01 after 6600. ``--quick`` takes 200
steps and every fifth image; otherwise five minutes are spent, the rate falling with the time.
"""

from __future__ import annotations

import math
import sys
import time
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import data_folder, parser, save, table
from torch import Tensor

import bilevel as bl
from bilevel.ground.memory import keep_freed_memory
from bilevel.ground.randomness import generator
from bilevel.model.regularisers.cascade import analyse, synthesise

NOISE, SIDE, BORDER = 0.03, 321, 6
SECONDS, STEPS = 300.0, 200
LAYERS = (1, 4, 8, 64)


def start(weakly_convex: bool, seed: int = 0) -> bl.regularisers.RidgeRegulariser:
    """Filters as PyTorch's convolutions start, their norm on a periodic grid divided out."""
    rng, banks = generator(seed, "ridge"), list[Tensor]()
    for c, m in pairwise(LAYERS):
        banks.append((2 * torch.rand(m, c, 5, 5, generator=rng) - 1) / math.sqrt(25 * c))
    banks[0] -= banks[0].mean((2, 3), keepdim=True)
    return bl.regularisers.RidgeRegulariser(
        banks,
        weight=1.0,
        sharpness=math.exp(4.0),
        scaling=20.0,
        weakly_convex=weakly_convex,
        norm=norm(banks),
        learn=("filters", "scaling", "sharpness"),
    )


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


def main() -> None:
    """Train, say how far it is, and look at the held-out images."""
    options = parser(__doc__ or "")
    options.add_argument(
        "--quick", action="store_true", help=f"{STEPS} steps and every fifth image"
    )
    options.add_argument("--convex", action="store_true", help="the convex profile")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    folder = data_folder(chosen) / "bsds500"
    paths = sorted(folder.glob("t*/*.png"))
    every = 5 if chosen.quick else 1
    images = [bl.data.load_image(path, grey=True) for path in (*paths[:360:every], *paths[360:])]
    held_out = [bl.data.centre_crop(x, SIDE) for x in images[-40::every]]
    lying = torch.cat([x if x.shape[2] < x.shape[3] else x.mT for x in images[:-40]])
    noise = bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(lying, bl.operators.Identity(), noise)

    ridge = start(weakly_convex=not chosen.convex)
    energy = bl.Variational(bl.fidelities.SquaredL2(), ridge)
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    budget = bl.Budget(steps=STEPS) if chosen.quick else bl.Budget(seconds=SECONDS)
    begun = time.monotonic()
    lines = [["0", "0", f"{one_step(ridge, held_out):.2f}"]]

    def told(record: bl.Record) -> None:
        if record.step and record.step % 50 == 0:
            left = budget.left(record.cost, record.step)
            print(f"step {record.step}: {record.psnr:.2f} dB on a batch, {left:.0f} s left")

    method = bl.pretraining.ScoreMatching(noise=NOISE, border=BORDER, rate=1e-2)
    fit = bl.pretrain(problem, method, budget=budget, record=told)
    wall = time.monotonic() - begun
    steps = len(fit.history) - 1
    reached = one_step(fit.energy.regulariser, held_out)  # type: ignore[union-attr]
    lines.append([str(steps), f"{fit.cost.seconds:.0f}", f"{reached:.2f}"])
    text = table(["steps", "seconds", f"one-step PSNR at {NOISE} [dB]"], lines)
    print(text)
    print(f"{wall:.0f} s in all, {fit.cost.seconds / steps:.3f} s a step")
    if not chosen.quick:
        kind = "convex" if chosen.convex else "weakly convex"
        numbers = {"profile": kind, "steps": steps, "seconds": fit.cost.seconds, "psnr": reached}
        save("pretraining", text, numbers)


if __name__ == "__main__":
    main()
