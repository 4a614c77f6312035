"""Peak memory of a lower-level solve by its number of steps, of learning by its outer steps.

    python benchmarks/memory.py

Each line is a fresh process; the peak is that of the resident set, above the one after a solve
(or a fit) of the fewest steps.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

LOWER, UPPER = (10, 100, 1000, 4000), (2, 20, 100)


def solve(steps: int) -> int:
    """TV denoising of 8x256x256 with exactly that many steps; returns the peak in bytes."""
    import torch

    import bilevel as bl

    torch.set_num_threads(1)
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.1, 0.01))
    y = torch.rand(8, 1, 256, 256)
    tol = bl.Tolerance(residual=1e-30)
    bl.minimise(energy.at(y), bl.solvers.Nesterov(), tol=tol, max_steps=steps, check_every=steps)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fit(steps: int) -> int:
    """A fit of that many outer steps on 8 crops of 64x64; returns the peak in bytes."""
    import torch

    import bilevel as bl

    torch.set_num_threads(1)
    images = bl.data.embedded_images(size=64)
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    tv = bl.regularisers.TotalVariation(torch.full((64, 64), 0.05), 0.05)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    slow = bl.algorithms.ProjectedGradient(bl.schedules.Constant(1e-3), step_size=10.0, tol=1e-9)
    learned = bl.learn(problem, slow, budget=bl.Budget(steps=steps))
    if len(learned.history) != steps + 1:
        raise SystemExit(f"expected {steps} steps, took {len(learned.history) - 1}")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak(kind: str, steps: int) -> float:
    """MiB, in a process of its own."""
    command = [sys.executable, __file__, kind, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout) / 2**20


def main() -> None:
    """Both tables."""
    from common import save, table

    lines, numbers = [], {}
    for kind, what, counts in (
        ("solve", "lower-level steps", LOWER),
        ("fit", "outer steps", UPPER),
    ):
        peaks = [peak(kind, count) for count in counts]
        numbers[kind] = dict(zip(map(str, counts), peaks, strict=True))
        for count, value in zip(counts, peaks, strict=True):
            lines.append([f"{count} {what}", f"{value:.0f}", f"{value - peaks[0]:+.1f}"])
    save("memory", table(["work", "peak [MiB]", "above the first"], lines), numbers)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print({"solve": solve, "fit": fit}[sys.argv[1]](int(sys.argv[2])))
    else:
        main()
