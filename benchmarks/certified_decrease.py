"""Every accepted step of certified MAID with the interval that its decrease is proved to lie in.

    python benchmarks/certified_decrease.py

The 1-D denoising problem of Ehrhardt and Roberts 2021 (Section 4.1) with one parameter: ten
characteristic functions of random intervals on 256 points, noise 0.1, smoothed total variation
with a learned weight and a ridge of 1e-3. An interval that holds an increase ends the run.
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import arguments, save, table

import bilevel as bl
from bilevel.ground.randomness import generator

SIGNALS, POINTS, NOISE, SMOOTHING, RIDGE = 10, 256, 0.1, 1e-2, 1e-3


def problem() -> bl.BilevelProblem:
    """Signals as images of one line."""
    g = generator(0, "intervals")
    centre = 0.25 + 0.5 * torch.rand(SIGNALS, 1, generator=g, dtype=torch.float64)
    radius = 0.125 + 0.125 * torch.rand(SIGNALS, 1, generator=g, dtype=torch.float64)
    at = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    signals = ((at - centre).abs() <= radius).double()[:, None, None]
    pairs = bl.data.simulate(signals, bl.operators.Identity(), bl.data.GaussianNoise(NOISE))
    tv = bl.regularisers.TotalVariation(0.01, SMOOTHING, learn=("weight",))
    ridge = bl.regularisers.Tikhonov(RIDGE, learn=())
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv + ridge).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def main() -> None:
    """One line an accepted step."""
    arguments(__doc__ or "")
    maid = bl.algorithms.MAID(certified=True, accelerated=True)
    fit = bl.learn(problem(), maid, budget=bl.Budget(steps=60, seconds=300))
    accepted = [r for r in fit.history if r.accepted]
    lines, worst = [], float("-inf")
    for before, after in itertools.pairwise(accepted):
        change, doubt = after.corrected - before.corrected, before.interval + after.interval
        worst = max(worst, change + doubt)
        weight = math.exp(after.scalars["regulariser.terms.0.log_weight"])
        cost = after.cost.gradient_evaluations + after.cost.hvps
        lines.append(
            [
                str(after.step),
                f"{weight:.5f}",
                f"{after.corrected:.9f}",
                f"[{change - doubt:.2e}, {change + doubt:.2e}]",
                f"{after.accuracy:.1e}",
                f"{after.gradient_norm:.1e} ± {after.error:.1e}",
                str(cost),
            ]
        )
    header = ["step", "weight", "loss", "proved change", "ε", "gradient ± proved error", "cost"]
    end = f"Ended as {fit.status.name}. Largest proved change: {worst:.2e}."
    save("certified_decrease", f"{table(header, lines)}\n\n{end}", {"worst": worst})
    if not lines or worst > 0:
        raise SystemExit("a proved interval holds an increase")


if __name__ == "__main__":
    main()
