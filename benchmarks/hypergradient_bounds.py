"""Proved bounds of hypergradients and losses against the truth, on 585 random problems.

    python benchmarks/hypergradient_bounds.py

Every operator and regulariser on images of 6x8 pixels, in float64 and float32, with random
parameters and data; three solutions of random accuracy each (rms 1e-1 ... 1e-6), every method with
random options. The truth is the implicit hypergradient at the minimiser, which is found
by Newton steps in float64. Errors below 1e-12 ‖∇ℓ‖ are rounding of the truth and left out of the
ratios.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

import torch  # noqa: E402
from common import arguments, save, table  # noqa: E402

import bilevel as bl  # noqa: E402
from contracts.bounds import Claim, claims, known  # noqa: E402
from contracts.zoo import OPERATORS, REGULARISERS  # noqa: E402

SEEDS, SOLUTIONS = range(2000, 2005), 3


def measure() -> tuple[int, dict[str, list[Claim]]]:
    """The number of problems, and all claims by method."""
    found: dict[str, list[Claim]] = defaultdict(list)
    problems = 0
    for operator in OPERATORS:
        for regulariser in REGULARISERS:
            for seed in SEEDS:
                loss = bl.losses.SquaredError() if seed % 3 else bl.losses.PSNR()
                problem = known(operator, regulariser, seed, loss)
                problems += 1
                for k in range(SOLUTIONS):
                    for claim in claims(problem, SOLUTIONS * seed + k):
                        found[claim.method].append(claim)
    return problems, found


def main() -> None:
    """One line a method: violations, smallest ratios, median ratios."""
    arguments(__doc__ or "")
    problems, found = measure()
    lines, numbers = [], {}
    for method, some in found.items():
        proved = [c for c in some if c.bound < torch.inf and c.error > c.rounding]
        off = [c for c in some if c.off > 0.01 * c.rounding]
        wrong = sum(c.violated for c in some)
        ratios = quantiles([c.bound / c.error for c in proved])
        ratios += quantiles([c.interval / c.off for c in off])
        lines.append([method, str(len(some)), str(wrong), *ratios])
        numbers[method] = {"claims": len(some), "violations": wrong}
    header = ["method", "claims", "violations", "gradient: smallest", "median", "90 %"]
    header += ["value: smallest", "median", "90 %"]
    values = sum(len(some) for some in found.values())
    gradients = sum(c.bound < torch.inf for some in found.values() for c in some)
    violations = sum(c.violated for some in found.values() for c in some)
    text = (
        f"{problems} problems, {gradients} bounds of gradients and {values} of values, "
        f"{violations} violations. The ratios are bound/error; below 1 would be a wrong proof."
    )
    save("hypergradient_bounds", f"{table(header, lines)}\n\n{text}", numbers)
    if violations:
        raise SystemExit("a bound is wrong")


def quantiles(some: list[float]) -> list[str]:
    """Smallest, median and 90 % quantile."""
    if not some:
        return ["-"] * 3
    found = torch.tensor(some, dtype=torch.float64)
    return [f"{float(found.quantile(q)):.4g}" for q in (0.0, 0.5, 0.9)]


if __name__ == "__main__":
    main()
