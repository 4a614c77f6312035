"""What choosing a weight costs, in comparison with one reconstruction.

    python benchmarks/selection_cost.py [--data DIR] [--repeats N]

Smoothed total variation (smoothing 0.01). Counts, the mean of six crops of 96x96: gradients and
Hessian-vector products of the lower level. "tight" is one reconstruction at the weight chosen, from
the data on, by L-BFGS to an rms of 1e-6, "loose" one to 1e-3 of the contrast, as in a choice. A
path has 20 weights in equal ratios around the best; it is compared with solves at its weights that
know nothing of each other. Seconds: all images in one call of ``bl.select`` against one call each.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import data_folder, parser, save, table
from selection import SMOOTHING, crops, operator
from torch import Tensor

import bilevel as bl
from bilevel.model import Cost
from bilevel.select import Path as Weights
from bilevel.select import Rule
from bilevel.select.degrees import Degrees
from bilevel.select.select import accuracy_for

FEW, TIGHT = 6, 1e-6


def problem(task: str, x: Tensor, sigma: float) -> tuple[bl.Variational, Tensor]:
    """Total variation, and data."""
    forward = operator(task).to(x.dtype)
    y = bl.data.simulate(x, forward, bl.data.GaussianNoise(sigma), seed=0).y
    tv = bl.regularisers.TotalVariation(1.0, SMOOTHING)
    return bl.Variational(bl.fidelities.SquaredL2(forward), tv).to(x.dtype), y


def each(cost: Cost, rows: int) -> dict[str, float]:
    """Of one image."""
    return {"gradients": cost.gradient_evaluations / rows, "products": cost.hvps / rows}


def sugar(x: Tensor) -> list[list[str]]:
    """SURE with its gradient at one weight, and the whole choice, against one tight solve."""
    lines: list[list[str]] = []
    for sigma in (0.05, 0.1, 0.2):
        energy, y = problem("denoising", x.double(), sigma)
        accuracy = accuracy_for(energy, y)
        choice = bl.select(energy, y, bl.rules.SURE(sigma))
        alone = [Weights(energy, y, accuracy=one) for one in (TIGHT, accuracy)]
        for one in alone:
            one.at(choice.weight)
        path = Weights(energy, y, accuracy=accuracy)
        rule, point = bl.rules.SURE(sigma, Degrees("monte carlo")), path.at(choice.weight)
        _ = rule.value(point), rule.slope(point)
        tight, loose = (one.cost.gradient_evaluations / len(y) for one in alone)
        cells = [f"{sigma:g}", f"{tight:.0f}", f"{loose:.0f}"]
        for cost in (path.cost, choice.cost):
            found = each(cost, len(y))
            total = found["gradients"] + found["products"]
            cells.append(
                f"{found['gradients']:.0f} + {found['products']:.0f}: "
                f"{found['gradients'] / tight:.1f}, all {total / tight:.1f}"
            )
        lines.append(cells)
    return lines


def paths(x: Tensor) -> list[list[str]]:
    """20 weights one after the other, against solves from the data."""
    lines: list[list[str]] = []
    for task, sigma in (("denoising", 0.05), ("denoising", 0.1), ("deblurring", 0.02)):
        energy, y = problem(task, x, sigma)
        accuracy = accuracy_for(energy, y)
        best = bl.select(energy, y, bl.rules.Oracle(x)).weight
        for low, high in ((0.1, 10.0), (0.01, 1.0), (0.01, 10.0)):
            ratios = low * (high / low) ** torch.linspace(0.0, 1.0, 20).double()
            path, cold = Weights(energy, y, accuracy=accuracy), []
            for ratio in ratios:
                path.at(ratio * best)
                alone = Weights(energy, y, accuracy=accuracy)
                alone.at(ratio * best)
                cold.append(alone.cost.gradient_evaluations / len(y))
            warm = path.cost.gradient_evaluations / len(y)
            lines.append(
                [
                    f"{task}, {sigma:g}",
                    f"{low:g} to {high:g}",
                    f"{warm:.0f}",
                    f"{max(cold):.0f}: {warm / max(cold):.1f}",
                    f"{statistics.mean(cold):.0f}: {warm / statistics.mean(cold):.1f}",
                ]
            )
    return lines


def seconds(energy: bl.Variational, y: Tensor, rule: Rule) -> float:
    """Of one call."""
    began = time.perf_counter()
    bl.select(energy, y, rule)
    return time.perf_counter() - began


def batches(x: Tensor, repeats: int) -> list[list[str]]:
    """One call for all, against one call each; both in turn."""
    lines: list[list[str]] = []
    for name, rule in (("SURE", bl.rules.SURE(0.1)), ("discrepancy", bl.rules.Discrepancy(0.1))):
        energy, y = problem("denoising", x, 0.1)
        ratios: list[float] = []
        seconds(energy, y[:1], rule)
        for turn in range(repeats):
            sizes = [len(y), 1] if turn % 2 else [1, len(y)]
            spent = {n: sum(seconds(energy, part, rule) for part in y.split(n)) for n in sizes}
            ratios.append(spent[1] / spent[len(y)])
        size = f"{len(x)} of {x.shape[2]}x{x.shape[3]}, {name}"
        spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        lines.append([size, f"{spent[len(y)] / len(y):.3f}", spread])
        print(lines[-1], flush=True)
    return lines


def large(count: int) -> Tensor:
    """Embedded pictures, tiled by their mirror images to 512x512."""
    images = [image.mean(0, keepdim=True) for image in bl.data.embedded_images()]
    tiled = []
    for image in images[:count]:
        wide = torch.cat([image, image.flip(2)], 2)
        tiled.append(torch.cat([wide, wide.flip(1)], 1)[:, :512, :512])
    return torch.stack(tiled)


def main() -> None:
    """Three tables."""
    options = parser(__doc__ or "")
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    folder = data_folder(given)
    x = crops(folder, 96, FEW)
    found = {"sugar": sugar(x), "paths": paths(x)}
    print(found, flush=True)
    found["batches"] = batches(crops(folder, 64, 64), given.repeats)
    found["batches"] += batches(large(4), given.repeats)
    headers = {
        "sugar": [
            "σ",
            "tight",
            "loose",
            "SURE and its gradient",
            "the whole choice",
        ],
        "paths": ["task", "weights over the best", "path", "dearest alone", "mean alone"],
        "batches": ["images", "seconds each", "one call each over one call for all"],
    }
    text = "\n\n".join(table(headers[name], lines) for name, lines in found.items())
    save("selection_cost", text, found)


if __name__ == "__main__":
    main()
