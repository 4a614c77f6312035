"""A map of weights learned from one noisy image alone, against the best single weight.

    python benchmarks/unsupervised_maps.py --data DIR [--size N] [--count K] [--seed S] [--first F]
        [--sigmas 0.1,0.05]

Crops of N x N (96) from K (12) files of BSD68, from file F (0) on, with Gaussian noise; total
variation with smoothing 0.01. For each image by itself:

- one weight, chosen by SURE and by whiteness (``bl.select``);
- a map learned by SURE from the weight that SURE chose, and a map learned by whiteness, which ends
  at W = 2 or after 20 steps, from the weight that whiteness chose (and from the one that SURE
  chose).

The options of learning were set on other images of BSD68 (files 30 to 41, seed 1) at a noise level
of 0.1; SURE is in squared grey values, hence a roughness of 30 σ². Differences of true PSNR.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import RESULTS, data_folder, parser, save, table
from torch import Tensor

import bilevel as bl

SMOOTHING, ACCURACY = 0.01, 1e-4
SURE_PROBES, SURE_ROUGHNESS, SURE_STEPS = 4, 30.0, 40
WHITE_ROUGHNESS, WHITE_STEPS = 30.0, 20


def crops(folder: Path, size: int, count: int, first: int) -> Tensor:
    """One from each file, (count, 1, size, size)."""
    files = sorted((folder / "bsd68").glob("*.png"))[first : first + count]
    images = [(file.name, bl.data.load_image(file, grey=True)) for file in files]
    return bl.data.crops(images, size, count, seed=0)[0].double()


def energy(weight: float | Tensor) -> bl.Variational:
    """Denoising by total variation, with one weight or a map that is learned."""
    tv = bl.regularisers.TotalVariation(weight, SMOOTHING, learn=("weight",))
    return bl.Variational(bl.fidelities.SquaredL2(), tv).double()


def psnr(x: Tensor, truth: Tensor) -> float:
    """[dB]."""
    return -10 * float((x - truth).square().mean().log10())


@dataclass(frozen=True)
class Learned:
    """A map (h, w) and what it makes of the image."""

    weight: Tensor
    x: Tensor
    steps: int
    end: str


def learned(
    y: Tensor, weight: float, criterion: bl.learn.Criterion, roughness: float, steps: int
) -> Learned:
    """From one weight everywhere."""
    start = energy(torch.full(y.shape[2:], weight, dtype=torch.float64))
    problem = bl.UnsupervisedProblem(start, y, criterion, roughness=roughness)
    fit = bl.learn(problem, bl.algorithms.LBFGS(), budget=bl.Budget(steps=steps))
    x = fit.reconstruct(y, bl.Tolerance(rms=ACCURACY)).x
    log = fit.theta["regulariser.log_weight"]
    return Learned(log.exp(), x, len(fit.history) - 1, fit.status.name.lower())


def compared(x: Tensor, sigma: float, seed: int) -> tuple[list[dict[str, float | str]], Path]:
    """PSNR of every image by every way, and a picture of the one that gains most."""
    noise = bl.data.GaussianNoise(sigma)
    y = bl.data.simulate(x, bl.operators.Identity(), noise, seed=seed).y
    by_sure, by_white = bl.rules.SURE(sigma), bl.rules.Whiteness()
    chosen = {
        name: bl.select(energy(1.0), y, rule, accuracy=ACCURACY)
        for name, rule in (("SURE", by_sure), ("whiteness", by_white))
    }
    sure = bl.criteria.SURE(sigma, probes=SURE_PROBES)
    white = bl.criteria.Whiteness()
    ways = {
        "SURE": ("SURE", sure, SURE_ROUGHNESS * sigma**2, SURE_STEPS),
        "whiteness": ("whiteness", white, WHITE_ROUGHNESS, WHITE_STEPS),
        "whiteness from SURE": ("SURE", white, WHITE_ROUGHNESS, WHITE_STEPS),
    }
    found: list[dict[str, float | str]] = []
    shown, best = (x[:1], x[:1], x[:1], x[:1], x[0, 0]), -torch.inf
    for k in range(len(x)):
        truth, data = x[k : k + 1], y[k : k + 1]
        line: dict[str, float | str] = {
            f"scalar, {name}": psnr(choice.x[k : k + 1], truth) for name, choice in chosen.items()
        }
        for name, (start, *how) in ways.items():
            one = learned(data, float(chosen[start].weight[k]), *how)
            line |= {f"map, {name}": psnr(one.x, truth), f"end, {name}": one.end}
            line[f"steps, {name}"] = one.steps
            gain = float(line[f"map, {name}"]) - float(line["scalar, SURE"])
            if name == "SURE" and gain > best:
                scalar = chosen["SURE"].x[k : k + 1]
                shown, best = (truth, data, scalar, one.x, one.weight), gain
        print(sigma, k, line, flush=True)
        found.append(line)
    return found, picture(*shown, sigma)


def picture(
    truth: Tensor, y: Tensor, scalar: Tensor, mapped: Tensor, weight: Tensor, sigma: float
) -> Path:
    """Image, data, both results and the map."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 2.7), layout="constrained")
    axes = figure.subplots(1, 5)
    named = {
        "image": truth,
        f"data, {psnr(y, truth):.2f} dB": y,
        f"one weight by SURE, {psnr(scalar, truth):.2f} dB": scalar,
        f"map by SURE, {psnr(mapped, truth):.2f} dB": mapped,
    }
    for axis, (title, image) in zip(axes, named.items(), strict=False):
        axis.imshow(image[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)
    drawn = axes[4].imshow(weight.numpy(), cmap="viridis")
    axes[4].set_title("weights", fontsize=9)
    figure.colorbar(drawn, ax=axes[4])
    for axis in axes:
        axis.set_axis_off()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"unsupervised_maps_{sigma:g}.png"
    figure.savefig(path, dpi=90)
    return path


PAIRS = (
    ("map, SURE", "scalar, SURE"),
    ("map, whiteness", "scalar, whiteness"),
    ("map, whiteness from SURE", "scalar, SURE"),
    ("map, whiteness", "scalar, SURE"),
    ("map, SURE", "scalar, whiteness"),
)


def lines(found: list[dict[str, float | str]], sigma: float) -> list[list[str]]:
    """A line a comparison."""
    rows = []
    for map_name, scalar_name in PAIRS:
        gains = torch.tensor([float(one[map_name]) - float(one[scalar_name]) for one in found])
        base = sum(float(one[scalar_name]) for one in found) / len(found)
        rows.append(
            [
                f"{sigma:g}",
                f"{map_name.removeprefix('map, ')}",
                f"{scalar_name.removeprefix('scalar, ')}",
                f"{base:.2f}",
                f"{float(gains.mean()):+.3f} ({float(gains.std()):.3f})",
                f"{float(gains.min()):+.3f}",
                f"{float(gains.max()):+.3f}",
                f"{int((gains > 0).sum())} of {len(gains)}",
            ]
        )
    return rows


def main() -> None:
    """All noise levels."""
    options = parser((__doc__ or "").split("\n")[0])
    options.add_argument("--size", type=int, default=96)
    options.add_argument("--count", type=int, default=12)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--sigmas", default="0.1,0.05")
    options.add_argument("--name", default="unsupervised_maps")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    x = crops(data_folder(chosen), chosen.size, chosen.count, chosen.first)
    rows, numbers = [], {}
    for sigma in (float(part) for part in chosen.sigmas.split(",")):
        found, _ = compared(x, sigma, chosen.seed)
        rows += lines(found, sigma)
        numbers[f"{sigma:g}"] = found
    header = ["σ", "map by", "one weight by", "one weight [dB]", "gain (deviation) [dB]"]
    header += ["least", "largest", "images that gain"]
    about = {key: getattr(chosen, key) for key in ("size", "count", "first", "seed")}
    save(chosen.name, table(header, rows), {**about, "images": numbers})


if __name__ == "__main__":
    main()
