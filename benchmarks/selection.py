"""What each rule loses against the best weight: smoothed total variation, 24 crops of BSD68.

    python benchmarks/selection.py --data DIR [--size N] [--kinds gaussian,unknown,poisson]

Crops of N x N (96) from 24 files, noise of three levels, denoising and deblurring (Gaussian blur
of 1.2 pixels). The weight of TV(smoothing 0.01) is chosen for each crop; the oracle knows the
truth. One line a rule: mean (standard deviation) of its loss in PSNR over the crops, the worst,
how many have no answer, and what it costs. "unknown" estimates σ from the data first,
for the rules that need it. For Poisson
data the levels are photons at grey value 1.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import data_folder, parser, save, table
from torch import Tensor

import bilevel as bl
from bilevel.select import Rule
from bilevel.select.degrees import Degrees
from bilevel.select.level_rule import LevelRule

COUNT, BLUR, SMOOTHING, BACKGROUND = 24, 1.2, 0.01, 0.02
SIGMAS = {"denoising": (0.05, 0.1, 0.2), "deblurring": (0.01, 0.02, 0.05)}
PEAKS = (20.0, 60.0, 200.0)


def crops(folder: Path, size: int, count: int = COUNT) -> Tensor:
    """From the first files, one each, (count, 1, size, size)."""
    files = sorted((folder / "bsd68").glob("*.png"))[:count]
    images = [(file.name, bl.data.load_image(file, grey=True)) for file in files]
    return bl.data.crops(images, size, count, seed=0)[0]


def operator(task: str) -> bl.operators.Operator:
    """The identity, or a Gaussian blur."""
    if task == "denoising":
        return bl.operators.Identity()
    t = torch.arange(-5, 6).float()
    line = torch.exp(-0.5 * (t / BLUR).square())
    kernel = line[:, None] * line / line.sum() ** 2
    return bl.operators.Convolution(kernel, "circular")


def gaussian_rules(task: str, sigma: float | Tensor, x: Tensor) -> dict[str, Rule]:
    """All that apply."""
    rules = bl.rules
    found: dict[str, Rule] = {
        "oracle": rules.Oracle(x),
        "discrepancy": rules.Discrepancy(sigma),
        "discrepancy, corrected": rules.Discrepancy(sigma, corrected=True),
        "predicted risk": rules.PredictedRisk(sigma),
        "predicted risk, 4 probes": rules.PredictedRisk(sigma, Degrees(probes=4)),
        "GSURE": rules.GSURE(sigma),
        "GSURE, 4 probes": rules.GSURE(sigma, degrees=Degrees(probes=4)),
        "Gaussianity": rules.Gaussianity(sigma),
        "GCV": rules.GCV(),
        "GCV, robust": rules.GCV(robustness=0.5),
        "whiteness": rules.Whiteness(),
        "hold-out": rules.HoldOut(),
        "L-curve": rules.LCurve(),
        "L-curve, triangle": rules.LCurve("triangle"),
        "quasi-optimality": rules.QuasiOptimality(),
    }
    if task == "denoising":
        found["SURE"] = rules.SURE(sigma)
        del found["GSURE"], found["GSURE, 4 probes"]
    return found


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Of every crop [dB]."""
    return -10 * (x - truth).double().square().flatten(1).mean(1).log10()


def compared(
    energy: bl.Variational, y: Tensor, rules: Mapping[str, Rule], truth: Tensor
) -> dict[str, dict[str, float]]:
    """Losses against the oracle, and costs."""
    found: dict[str, dict[str, float]] = {}
    best = torch.zeros(len(y))
    for name, rule in rules.items():
        choice = bl.select(energy, y, rule)
        reached = psnr(choice.x, truth)
        if name == "oracle":
            best = reached
        loss = best - reached
        cost = choice.cost
        found[name] = {
            "psnr": float(reached.mean()),
            "loss": float(loss.mean()),
            "deviation": float(loss.std()),
            "worst": float(loss.max()),
            "unanswered": int((~choice.found).sum()),
            "gradients": cost.gradient_evaluations / len(y),
            "products": cost.hvps / len(y),
        }
        print(f"  {name}: {found[name]}", flush=True)
    return found


def gaussian(task: str, x: Tensor, level: float, *, known: bool) -> dict[str, dict[str, float]]:
    """With σ given, or estimated from the data."""
    forward = operator(task)
    y = bl.data.simulate(x, forward, bl.data.GaussianNoise(level), seed=0).y
    tv = bl.regularisers.TotalVariation(1.0, SMOOTHING)
    energy = bl.Variational(bl.fidelities.SquaredL2(forward), tv)
    sigma = level if known else bl.data.noise_level(y)
    rules = gaussian_rules(task, sigma, x)
    if not known:
        rules = {n: r for n, r in rules.items() if n == "oracle" or isinstance(r, LevelRule)}
    return compared(energy, y, rules, x)


def poisson(task: str, x: Tensor, peak: float) -> dict[str, dict[str, float]]:
    """Counts."""
    forward, rules = operator(task), bl.rules
    y = bl.data.simulate(x, forward, bl.data.PoissonNoise(peak, BACKGROUND), seed=0).y
    fidelity = bl.fidelities.KullbackLeibler(forward, background=BACKGROUND)
    tv = bl.regularisers.TotalVariation(1.0, SMOOTHING)
    found: dict[str, Rule] = {
        "oracle": rules.Oracle(x),
        "discrepancy": rules.PoissonDiscrepancy(peak, "half"),
        "discrepancy, nearly exact": rules.PoissonDiscrepancy(peak, "expected"),
        "discrepancy, masked": rules.PoissonDiscrepancy(peak, "masked"),
        "PURE": rules.PURE(peak),
        "PURE, 4 probes": rules.PURE(peak, Degrees(probes=4)),
        "whiteness": rules.Whiteness(),
    }
    return compared(bl.Variational(fidelity, tv), y, found, x)


def main() -> None:
    """One table a kind of noise and task, one column a level."""
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=96)
    options.add_argument("--kinds", default="gaussian,unknown,poisson")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    x = crops(data_folder(chosen), chosen.size)
    text, numbers = "", {}
    for kind in chosen.kinds.split(","):
        for task, sigmas in SIGMAS.items():
            levels = PEAKS if kind == "poisson" else sigmas
            by: dict[float, dict[str, dict[str, float]]] = {}
            for level in levels:
                print(kind, task, level, flush=True)
                if kind == "poisson":
                    by[level] = poisson(task, x, level)
                else:
                    by[level] = gaussian(task, x, level, known=kind == "gaussian")
            numbers[f"{kind}, {task}"] = by
            text += f"\n{task}, {kind} noise: loss against the oracle [dB]\n\n" + lines(by)
    save("selection", text, numbers)


def lines(by: dict[float, dict[str, dict[str, float]]]) -> str:
    """Mean (standard deviation), and how many have no answer."""
    first = next(iter(by.values()))
    found = []
    for name in first:
        cells = [name]
        for level in by.values():
            one = level[name]
            missing = f", {one['unanswered']} without answer" if one["unanswered"] else ""
            if name == "oracle":
                cells.append(f"{one['psnr']:.2f} dB")
            else:
                cells.append(f"{one['loss']:.2f} ({one['deviation']:.2f}){missing}")
        cost = [
            f"{one[name]['gradients']:.0f} + {one[name]['products']:.0f}" for one in by.values()
        ]
        found.append([*cells, " / ".join(cost)])
    header = ["rule", *(f"{level:g}" for level in by), "gradients + products a crop"]
    return table(header, found) + "\n"


if __name__ == "__main__":
    main()
