"""Rates of single-loop algorithms on quadratics, over 20 random starts, beside the theory.

    python benchmarks/rates.py

Quadratic lower and upper levels with finite sums (24 and 20 samples) and a known solution, batches
of four, float64. The squared norm of the exact gradient is fitted by a power of t, or by a line in
its logarithm where theory says linear; medians and the range of the middle half over the starts.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from common import arguments, save, table

from bilevel.learn.algorithms import MASOBA, SABA, SOBA, SRBA
from bilevel.learn.loops.single_loop import SingleLoop
from contracts.quadratics import DOUBLE, Quadratic

STARTS, EPOCHS, SKIPPED, FLOOR = 20, 40, 6, 1e-22
POWER, LINEAR = "power of t", "factor an epoch"
METHODS: dict[str, tuple[SingleLoop, str, str]] = {
    "SOBA": (
        SOBA(batch_size=4, outer_step=0.1, tol=1e-30),
        POWER,
        "mean over t at most -1/2, up to a logarithm (Dagréou et al. 2022)",
    ),
    "MA-SOBA": (
        MASOBA(batch_size=4, outer_step=0.1, average=0.5, tol=1e-30),
        POWER,
        "mean over t at most -1/2 (Chen et al. 2023)",
    ),
    "SABA": (
        SABA(batch_size=4, outer_step=0.1, tol=1e-30),
        LINEAR,
        "below 1: linear where F is gradient dominated (Dagréou et al. 2022)",
    ),
    "SRBA": (
        SRBA(batch_size=4, outer_step=0.1, tol=1e-30),
        LINEAR,
        "below 1 here; O(1/T) in general (Dagréou et al. 2023)",
    ),
}


def gradients(method: SingleLoop, seed: int) -> list[float]:
    """‖∇F‖² after each epoch, exactly."""
    quadratic = Quadratic.random(seed % 5)
    g = torch.Generator().manual_seed(seed)
    p = quadratic.problem(quadratic.solution() + torch.randn(3, generator=g, dtype=DOUBLE))
    state = method.init(p, p.theta)
    found = []
    for _ in range(EPOCHS):
        state = method.step(p, state)
        slope = quadratic.gradient(state.evaluation.theta["w"])
        found.append(float(slope.square().sum()))
    return found


def rate(squares: list[float], kind: str) -> float:
    """Exponent of t, or factor an epoch, by least squares after the first epochs."""
    kept = [(t, s) for t, s in enumerate(squares, 1) if t > SKIPPED and s > FLOOR]
    t = torch.tensor([k for k, _ in kept], dtype=DOUBLE)
    y = torch.tensor([s for _, s in kept], dtype=DOUBLE).log()
    x = t.log() if kind == POWER else t
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    return slope if kind == POWER else math.exp(slope)


def main() -> None:
    """One line a method."""
    arguments(__doc__ or "")
    lines, numbers = [], {}
    for name, (method, kind, theory) in METHODS.items():
        runs = [gradients(method, seed) for seed in range(STARTS)]
        rates = torch.tensor([rate(run, kind) for run in runs], dtype=DOUBLE)
        low, middle, high = (float(rates.quantile(q)) for q in (0.25, 0.5, 0.75))
        last = float(torch.tensor([run[-1] for run in runs], dtype=DOUBLE).median())
        numbers[name] = {"kind": kind, "rates": rates.tolist(), "last": last}
        fitted = f"{middle:.3f} ({low:.3f} to {high:.3f})"
        lines.append([name, kind, fitted, theory, f"{last:.1e}"])
    header = ["method", "what is fitted to ‖∇F‖²", "median (middle half)", "theory"]
    save(
        "rates",
        f"{STARTS} starts (four on each of five problems), {EPOCHS} epochs, the first {SKIPPED} "
        "left out of the fits. The theory of the first two bounds the mean of ‖∇F‖² over t.\n\n"
        + table([*header, "last ‖∇F‖², median"], lines),
        {"methods": numbers},
    )


if __name__ == "__main__":
    main()
