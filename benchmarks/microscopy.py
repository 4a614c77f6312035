"""Deconvolution of simulated stacks of a fluorescence microscope, against Richardson and Lucy.

    python benchmarks/microscopy.py [--stacks N] [--side N] [--pages N] [--span LOW,HIGH]

Twelve stacks of five pages of 64x64 pixels (``--side``): ellipsoids and filaments of random place,
size and brightness (100 to 350 photons), cut into pages, behind a Gaussian blur of 1.3 pixels,
with photon noise, offset 100, gain 1 and read noise 2, in whole numbers of 16 bits. The scene is
larger than the picture, so that nobody knows the border.

Ours are the five lines of Python that the command ``bilevel select STACK --operator
gaussian-blur:size=9,sigma=1.3,boundary=reflecting --camera offset=100,gain=1,read_noise=2`` stands
for, on all pages at once. Beside it
Richardson-Lucy with the same blur, border and offset, in two versions (data above the offset cut
off at 0, and with read_noise² added to data and model), each stopped for every page where it is
nearest to the truth: no user can do that. PSNR is of all pages of a stack, with the brightest
true pixel as peak.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from common import parser, save, table
from torch import Tensor

import bilevel as bl
from bilevel.cli.options import range_of
from bilevel.ground.randomness import generator
from bilevel.select import Choice

STACKS, PAGES, SIDE, MARGIN = 12, 5, 64, 8
DENSITY = 45 / 144**2
"""Of ellipsoids [1/pixel²], that of the stack that they are to resemble."""
FINE, SLICES = 2, 4
CAMERA = bl.data.Camera(offset=100.0, gain=1.0, read_noise=2.0, saturation=65535.0)
SIGMA, KERNEL = 1.3, 9
ITERATIONS = 200


def uniform(rng: torch.Generator, low: float, high: float) -> float:
    """One number."""
    return low + (high - low) * float(torch.rand((), generator=rng))


def scene(seed: int, width: int) -> Tensor:
    """Photons of every pixel, (pages, width + 2 margin, width + 2 margin) float64."""
    rng = generator(seed, "microscopy")
    side = width + 2 * MARGIN
    t = (torch.arange(side * FINE, dtype=torch.float64) + 0.5) / FINE
    z = (torch.arange(PAGES * SLICES, dtype=torch.float64) + 0.5) / SLICES
    fine = torch.zeros(len(z), len(t), len(t), dtype=torch.float64)
    for _ in range(round(DENSITY * side**2)):
        light = uniform(rng, 100, 350)
        row, column, depth = (uniform(rng, 0, end) for end in (side, side, PAGES))
        a, b, c = uniform(rng, 2.5, 11), uniform(rng, 2.5, 11), uniform(rng, 1.5, 5)
        turn = uniform(rng, 0, math.pi)
        u, v = t[:, None] - row, t[None] - column
        p, q = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
        distance = (p / a).square() + (q / b).square()
        inside = distance[None] + ((z - depth) / c).square()[:, None, None] < 1
        fine = torch.where(inside, fine.clamp_min(light), fine)
    for _ in range(2):
        light, thin = uniform(rng, 100, 250), uniform(rng, 0.8, 1.6)
        depth, thick = uniform(rng, 0, PAGES), uniform(rng, 0.8, 1.6)
        place = torch.tensor([uniform(rng, 0, side), uniform(rng, 0, side)], dtype=torch.float64)
        angle, nearest = uniform(rng, 0, 2 * math.pi), torch.full_like(fine[0], math.inf)
        for _ in range(60):
            angle += uniform(rng, -0.25, 0.25)
            place = place + torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
            apart = (t[:, None] - place[0]).square() + (t[None] - place[1]).square()
            nearest = torch.minimum(nearest, apart)
        inside = (nearest / thin**2)[None] + ((z - depth) / thick).square()[:, None, None] < 1
        fine = torch.where(inside, fine.clamp_min(light), fine)
    pages = fine.view(PAGES, SLICES, side, FINE, side, FINE)
    return pages.mean((1, 3, 5))


def blur(boundary: str) -> bl.operators.Operator:
    """That of the command."""
    t = torch.arange(KERNEL, dtype=torch.float64) - (KERNEL - 1) / 2
    line = torch.exp(-0.5 * (t / SIGMA).square())
    kernel = torch.outer(line, line)
    return bl.operators.Convolution(kernel / kernel.sum(), boundary).double()


def measured(seed: int, side: int = SIDE) -> tuple[Tensor, np.ndarray]:
    """The truth (pages, 1, side, side) [photons] and the numbers of the camera, whole."""
    whole = scene(seed, side)[:, None]
    inner = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    clean = blur("zero")(whole)[inner]
    noise = CAMERA.noise
    y = torch.cat(
        [
            noise.sample(clean[k : k + 1], generator(seed, "microscopy noise", k))
            for k in range(PAGES)
        ]
    )
    numbers = CAMERA.numbers(y).round().clamp_min(0)
    return whole[inner], numbers[:, 0].numpy().astype(np.uint16)


def richardson_lucy(light: Tensor, truth: Tensor, background: float) -> tuple[Tensor, Tensor]:
    """x <- x/Aᵀ1 · Aᵀ(z/(A x + b)), each page where it is nearest to the truth; and when.

    z = light + b >= 0 (Richardson 1972; Lucy 1974).
    """
    a = blur("reflecting")
    z = (light + background).clamp_min(0.0)
    x = light.clamp_min(0.0).flatten(1).mean(1)[:, None, None, None].expand_as(light).clone()
    share = a.adjoint(torch.ones_like(light))
    best, when = x.clone(), torch.zeros(len(x))
    least = (x - truth).square().flatten(1).mean(1)
    for k in range(1, ITERATIONS + 1):
        x = x / share * a.adjoint(z / (a(x) + background).clamp_min(1e-12))
        error = (x - truth).square().flatten(1).mean(1)
        better = error < least
        least = torch.where(better, error, least)
        best[better], when[better] = x[better], float(k)
    return best, when


def ours(numbers: Tensor, span: tuple[float, float] | None = None) -> Choice:
    """Weights and reconstructions of all pages (n, 1, side, side) as the command makes them."""
    noise = CAMERA.noise.shifted
    y = CAMERA.light(numbers).clamp_min(-noise.background)
    fidelity = bl.fidelities.KullbackLeibler(blur("reflecting").float(), noise.background)
    light = bl.regularisers.TotalVariation(1.0) + bl.regularisers.Box(0.0)
    return bl.select(bl.Variational(fidelity, light), y, bl.rules.PURE(noise.peak), span=span)


def psnr(x: Tensor, truth: Tensor) -> float:
    """Of a stack [dB]."""
    return float(10 * (truth.max().square() / (x - truth).square().mean()).log10())


def main() -> None:
    """One line a stack, and the mean difference with its spread."""
    options = parser(__doc__ or "")
    options.add_argument("--stacks", type=int, default=STACKS)
    options.add_argument("--side", type=int, default=SIDE)
    options.add_argument("--pages", type=int, default=PAGES, help="of each stack, the middle ones")
    options.add_argument("--span", help="of weights, LOW,HIGH; found from the data if left out")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    span = None if chosen.span is None else range_of(chosen.span, "--span")
    pages, first = chosen.pages, (PAGES - chosen.pages) // 2
    stacks = [measured(seed, chosen.side) for seed in range(chosen.stacks)]
    stacks = [(x[first : first + pages], y[first : first + pages]) for x, y in stacks]
    values = [torch.from_numpy(y.astype(np.float64))[:, None] for _, y in stacks]
    began = time.monotonic()
    choice = ours(torch.cat(values).float(), span)
    seconds = time.monotonic() - began
    print(f"{seconds:.0f} s, outcomes {Counter(one.name for one in choice.outcome)}", flush=True)
    lines, numbers = [], []
    for k, (truth, _) in enumerate(stacks):
        rows, light = slice(pages * k, pages * (k + 1)), CAMERA.light(values[k])
        plain, when = richardson_lucy(light, truth, 0.0)
        aware, then = richardson_lucy(light, truth, CAMERA.read_noise**2 / CAMERA.gain)
        found: dict[str, Any] = {
            "data": psnr(light, truth),
            "RL": psnr(plain, truth),
            "RL, read noise": psnr(aware, truth),
            "ours": psnr(choice.x[rows].double(), truth),
            "iterations": [when.tolist(), then.tolist()],
            "weight": choice.weight[rows].tolist(),
            "outcome": [one.name for one in choice.outcome[rows]],
            "least": float(choice.x[rows].min()),
        }
        numbers.append(found)
        best = max(found["RL"], found["RL, read noise"])
        cells = [f"{found[name]:.2f}" for name in ("data", "RL", "RL, read noise", "ours")]
        sure = sum(one == "FOUND" for one in found["outcome"])
        lines.append([str(k), *cells, f"{found['ours'] - best:+.2f}", f"{sure} of {pages}"])
        print(*lines[-1], flush=True)
    gain = np.array([n["ours"] - max(n["RL"], n["RL, read noise"]) for n in numbers])
    spread = float(gain.std(ddof=1)) if len(gain) > 1 else math.nan
    header = ["stack", "data", "RL", "RL, read noise", "ours", "gain", "found"]
    where = "where the data say" if span is None else f"from {span[0]:g} to {span[1]:g}"
    text = table(header, lines)
    text += (
        f"\n\nPSNR [dB]. Gain over the better Richardson-Lucy at its best stops: mean "
        f"{gain.mean():.2f} dB, standard deviation {spread:.2f}, least {gain.min():.2f}, over "
        f"{len(gain)} stacks, {pages} of their pages, of {chosen.side}x{chosen.side} pixels; "
        f"weights sought {where}."
    )
    summary = {"mean": float(gain.mean()), "deviation": spread, "least": float(gain.min())}
    save("microscopy", text, {"gain": summary, "seconds": seconds, "stacks": numbers})


if __name__ == "__main__":
    main()
