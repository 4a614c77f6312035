"""How loose certificates are: certified over true distance, by condition number.

    python benchmarks/certificates.py

Random denoising and deblurring problems of 12x10 pixels in float64, every regulariser,
solved by Nesterov's method to rms 1e-2 ... 1e-6; the exact minimiser is found by
damped Newton steps with Hessians from autograd of the energy alone.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

import torch  # noqa: E402
from common import arguments, save, table  # noqa: E402

import bilevel as bl  # noqa: E402
from contracts.zoo import OPERATORS, REGULARISERS, make, reference  # noqa: E402

EDGES = (1, 3, 10, 30, 100, 300, 1000, 1e9)


def looseness() -> list[tuple[float, float]]:
    """(condition number, certified/true) of every solve."""
    found = []
    for operator in OPERATORS:
        for regulariser in REGULARISERS:
            for seed in range(8):
                case = make(operator, regulariser, 1000 + seed, torch.float64)
                objective = case.energy.at(case.y)
                bounds = objective.bounds
                kappa = float(bounds.lipschitz / bounds.mu)
                tol = bl.Tolerance(rms=10.0 ** -(2 + seed % 5))
                solution = bl.minimise(objective, bl.solvers.Nesterov(), tol=tol)
                exact = reference(case.energy, solution.x, case.y)
                true = float((solution.x - exact).square().mean().sqrt())
                if true > 1e-12:
                    found.append((kappa, float(solution.certificate.rms) / true))
    return found


def main() -> None:
    """Quantiles of the ratio in bins of the condition number."""
    arguments(__doc__ or "")
    found = looseness()
    lines = []
    for low, high in itertools.pairwise(EDGES):
        ratios = torch.tensor([r for kappa, r in found if low <= kappa < high])
        if len(ratios):
            quantiles = [f"{float(ratios.quantile(q)):.1f}" for q in (0.0, 0.5, 0.9, 1.0)]
            lines.append([f"{low:g} to {high:g}", str(len(ratios)), *quantiles])
    text = table(["condition number", "solves", "smallest", "median", "90 %", "largest"], lines)
    below = torch.tensor([r for kappa, r in found if kappa <= 100])
    median = float(below.median())
    smallest = min(r for _, r in found)
    save(
        "certificates",
        f"{text}\n\nMedian for condition numbers up to 100: {median:.2f}. "
        f"Smallest ratio of all {len(found)}: {smallest:.3f} (below 1 would be a wrong proof).",
        {"median_up_to_100": median, "smallest": smallest, "solves": len(found)},
    )


if __name__ == "__main__":
    main()
