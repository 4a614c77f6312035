"""What it costs to learn one TV weight, from starts two decades away on either side.

    python benchmarks/scalar_weight.py

Eight embedded pictures of 64x64, Gaussian noise 0.1, float64. The minimiser is found by golden
section on solves to rms 1e-9. Every method runs untuned; the fixed accuracies are Algorithm 1
with a constant ε, of which the best is the cheapest that lands within 1 %.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import arguments, save, table

import bilevel as bl
from bilevel.learn.algorithms import MAID, ProjectedGradient
from bilevel.learn.schedules import Adaptive, Constant, Geometric, Polynomial

NAME = "regulariser.log_weight"
FIXED = [10.0**-k for k in (2, 2.5, 3, 3.5, 4, 5, 6)]


def problem(weight: float) -> bl.BilevelProblem:
    """TV denoising of the embedded pictures with everything but the weight fixed."""
    images = bl.data.embedded_images(size=64).double()
    noise = bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=0)
    tv = bl.regularisers.TotalVariation(weight, 0.01, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def dense_search() -> float:
    """log of the best weight: a grid, then golden section."""
    p = problem(0.05)

    def loss(t: float) -> float:
        return p.value({NAME: torch.tensor(t, dtype=torch.float64)}, tol=1e-9)

    grid = [math.log(10.0) * k / 4 for k in range(-12, 1)]
    centre = min(grid, key=loss)
    low, high = centre - math.log(10) / 4, centre + math.log(10) / 4
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-7:
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return (low + high) / 2


METHODS: dict[str, bl.algorithms.MAID | bl.algorithms.ProjectedGradient] = {
    "Algorithm 1, ε geometric": ProjectedGradient(Geometric()),
    "Algorithm 1, ε polynomial": ProjectedGradient(Polynomial()),
    "Algorithm 1, ε adaptive": ProjectedGradient(Adaptive()),
    "MAID": MAID(),
    "accelerated MAID": MAID(accelerated=True),
    **{f"Algorithm 1, ε = {e:.1e} fixed": ProjectedGradient(Constant(e)) for e in FIXED},
}


def main() -> None:
    """One line a method: distance in log weight, gradient evaluations and HVPs of both starts."""
    arguments(__doc__ or "")
    best = dense_search()
    lines, numbers = [], {}
    for name, method in METHODS.items():
        line, total, worst = [name], 0, 0.0
        for decades in (-2, 2):
            p = problem(math.exp(best) * 10.0**decades)
            fit = bl.learn(p, method, budget=bl.Budget(steps=150, seconds=200))
            off = float(fit.theta[NAME]) - best
            cost = fit.cost
            total += cost.gradient_evaluations + cost.hvps
            worst = max(worst, abs(off))
            counts = f"{cost.gradient_evaluations} + {cost.hvps}"
            line += [f"{off:+.4f}", counts, f"{fit.status.name}, {len(fit.history)}"]
        numbers[name] = {"off": worst, "gradients_and_hvps": total}
        lines.append([*line, str(total) + ("" if worst <= 0.01 else " (missed)")])
    header = ["method"]
    for start in ("best/100", "100 best"):
        header += [f"from {start}: off", "gradients + HVPs", "end, steps"]
    met = {k: v for k, v in numbers.items() if "fixed" in k and v["off"] <= 0.01}
    cheapest = min(met, key=lambda k: met[k]["gradients_and_hvps"]) if met else "none"
    save(
        "scalar_weight",
        f"Best weight {math.exp(best):.5f} (log {best:.5f}). Counts are summed over 8 samples.\n\n"
        + table([*header, "total"], lines)
        + f"\n\nBest fixed accuracy, found by this search: {cheapest}.",
        {"log_weight": best, "methods": numbers},
    )


if __name__ == "__main__":
    main()
