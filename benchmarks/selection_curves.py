"""Whether what a rule loses is its own fault: its criterion at 81 weights, without any search.

    python benchmarks/selection_curves.py --data DIR [--size N] [--count N]

The crops, noise and energy of ``selection.py`` at two levels a task. The weights reach from 1/100
to 100 times the best one of each crop. By brute force a rule takes the least value of its criterion
there, GCV the minimum at the largest weight, and a principle of discrepancy the weight nearest to
its first root. One line a rule: its mean loss in PSNR by brute force, by ``bl.select``, and how far
(mean of the factor in weight) its choice by brute force lies above the best. The figure shows where
the choices of all crops lie.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from common import RESULTS, data_folder, parser, save, table
from selection import COUNT, SMOOTHING, crops, operator, psnr
from torch import Tensor

import bilevel as bl
from bilevel.select import Goal, Rule
from bilevel.select import Path as Weights
from bilevel.select.degrees import Degrees
from bilevel.select.select import accuracy_for

CASES = (("denoising", 0.05), ("denoising", 0.1), ("deblurring", 0.01), ("deblurring", 0.02))
REACH, POINTS = 100.0, 81


def rules_for(task: str, sigma: float) -> dict[str, Rule]:
    """Those that need no data of their own."""
    rules = bl.rules
    found: dict[str, Rule] = {
        "predicted risk": rules.PredictedRisk(sigma),
        "discrepancy": rules.Discrepancy(sigma),
        "discrepancy, corrected": rules.Discrepancy(sigma, corrected=True),
        "GCV": rules.GCV(),
        "GCV, 8 probes": rules.GCV(degrees=Degrees(probes=8)),
        "GCV, robust": rules.GCV(robustness=0.5),
        "whiteness": rules.Whiteness(),
        "quasi-optimality": rules.QuasiOptimality(),
    }
    if task == "deblurring":
        found["GSURE"] = rules.GSURE(sigma)
    return found


@dataclass(frozen=True)
class Curves:
    """Criteria and PSNR at all weights, (n, b) each; ``logs`` of the weight over the best one."""

    logs: Tensor
    psnr: Tensor
    values: dict[str, Tensor]


def curves(energy: bl.Variational, y: Tensor, rules: dict[str, Rule], x: Tensor) -> Curves:
    """From the smallest weight on, all rules at the same reconstructions."""
    accuracy = accuracy_for(energy, y)
    best = bl.select(energy, y, bl.rules.Oracle(x), accuracy=accuracy).weight
    logs = torch.linspace(-1.0, 1.0, POINTS).double() * torch.tensor(REACH).double().log()
    path = Weights(energy, y, accuracy=accuracy)
    quality: list[Tensor] = []
    values: dict[str, list[Tensor]] = {name: [] for name in rules}
    for log in logs:
        point = path.at(best * log.exp())
        quality.append(psnr(point.x, x))
        for name, rule in rules.items():
            values[name].append(rule.value(point).double())
    stacked = {name: torch.stack(one) for name, one in values.items()}
    return Curves(logs, torch.stack(quality), stacked)


def chosen(rule: Rule, values: Tensor) -> Tensor:
    """The place of its choice in every column, by brute force."""
    if rule.goal is Goal.ROOT:
        last = ((values <= 0).long().cumprod(0).sum(0) - 1).clamp(0, len(values) - 2)
        sides = torch.stack([last, last + 1])
        return sides.gather(0, values.gather(0, sides).abs().argmin(0)[None])[0]
    if not rule.descending:
        return values.argmin(0)
    inner = (values[1:-1] <= values[:-2]) & (values[1:-1] <= values[2:])
    places = torch.arange(1, len(values) - 1)[:, None] * inner
    return torch.where(inner.any(0), places.amax(0), values.argmin(0))


def draw(place: plt.Axes, title: str, found: Curves, choices: dict[str, Tensor]) -> None:
    """The mean loss along the weights, and a row of dots for each rule."""
    loss = found.psnr.amax(0) - found.psnr
    factor = found.logs.exp()
    place.fill_between(factor, *loss.quantile(torch.tensor([0.1, 0.9]).double(), 1), alpha=0.2)
    place.plot(factor, loss.median(1).values)
    for row, (name, at) in enumerate(choices.items(), 1):
        level = torch.full((len(at),), -0.35 * row) + 0.08 * (torch.rand(len(at)) - 0.5)
        place.plot(factor[at], level, ".", markersize=4)
        place.text(1.1 * float(factor[0]), -0.35 * row, name, va="center", fontsize=7)
    place.axvline(1.0, color="grey", linewidth=0.8)
    place.set(xscale="log", ylim=(-0.35 * (len(choices) + 1), 2.5), title=title)
    place.set_yticks([0, 0.5, 1, 1.5, 2, 2.5])
    place.set_xlabel("weight over the best one")
    place.set_ylabel("loss in PSNR [dB]")


def main() -> None:
    """Two levels of two tasks."""
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=96)
    options.add_argument("--count", type=int, default=COUNT)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    x = crops(data_folder(given), given.size, given.count)
    figure, places = plt.subplots(2, 2, figsize=(10, 9), layout="constrained")
    text, numbers = "", {}
    for (task, sigma), place in zip(CASES, places.flat, strict=True):
        forward, rules = operator(task), rules_for(task, sigma)
        y = bl.data.simulate(x, forward, bl.data.GaussianNoise(sigma), seed=0).y
        tv = bl.regularisers.TotalVariation(1.0, SMOOTHING)
        energy = bl.Variational(bl.fidelities.SquaredL2(forward), tv)
        found = curves(energy, y, rules, x)
        top = found.psnr.amax(0)
        choices = {name: chosen(rule, found.values[name]) for name, rule in rules.items()}
        draw(place, f"{task}, σ = {sigma:g}", found, choices)
        by: dict[str, dict[str, float]] = {}
        for name, at in choices.items():
            searched = psnr(bl.select(energy, y, rules[name]).x, x)
            by[name] = {
                "brute force": float((top - found.psnr.gather(0, at[None])[0]).mean()),
                "search": float((top - searched).mean()),
                "factor": float(found.logs[at].mean().exp()),
            }
            print(task, sigma, name, by[name], flush=True)
        numbers[f"{task}, {sigma}"] = by
        lines = [[name, *(f"{value:.2f}" for value in one.values())] for name, one in by.items()]
        header = ["rule", "loss by brute force [dB]", "loss by search [dB]", "factor in weight"]
        text += f"\n{task}, σ = {sigma:g}\n\n{table(header, lines)}\n"
    save("selection_curves", text, numbers)
    figure.savefig(RESULTS / "selection_curves.png", dpi=110)


if __name__ == "__main__":
    main()
