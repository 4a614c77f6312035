"""Peak memory of a solve by its number of steps, of learning, and of one very large picture.

    python benchmarks/memory.py

Each line is a fresh process; the peak is that of the resident set, above the one after a solve
(or a fit) of the fewest steps; the large picture stands for itself.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

LOWER, UPPER, LARGE = (10, 100, 1000, 4000), (2, 20, 100), (20,)


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


def large(steps: int) -> int:
    """TV deblurring of 4096x3072 pixels by L-BFGS, bounds included; returns the peak in bytes."""
    import torch

    import bilevel as bl

    torch.set_num_threads(1)
    profile = torch.exp(-((torch.arange(9) - 4.0) ** 2) / (2 * 1.6**2))
    kernel = torch.outer(profile, profile) / profile.sum() ** 2
    blur = bl.operators.Convolution(kernel, "reflecting")
    fidelity, tv = bl.fidelities.SquaredL2(blur), bl.regularisers.TotalVariation(0.002, 0.01)
    energy = bl.Variational(fidelity, tv + bl.regularisers.Tikhonov(1e-3))
    y = blur(torch.rand(1, 1, 3072, 4096))
    tol = bl.Tolerance(residual=1e-9)
    found = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=tol, max_steps=steps)
    if int(found.steps.max()) != steps:
        raise SystemExit(f"expected {steps} steps, took {found.steps.tolist()}")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak(kind: str, steps: int) -> float:
    """MiB, in a process of its own."""
    command = [sys.executable, __file__, kind, str(steps)]
    plain = {**os.environ, "BILEVEL_COMPILE": "never"}  # a compiler's memory is not ours
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    return json.loads(done.stdout) / 2**20


def main() -> None:
    """All tables."""
    from common import save, table

    lines, numbers = [], {}
    for kind, what, counts in (
        ("solve", "lower-level steps", LOWER),
        ("fit", "outer steps", UPPER),
        ("large", "steps on 4096x3072 pixels", LARGE),
    ):
        peaks = [peak(kind, count) for count in counts]
        numbers[kind] = dict(zip(map(str, counts), peaks, strict=True))
        for count, value in zip(counts, peaks, strict=True):
            lines.append([f"{count} {what}", f"{value:.0f}", f"{value - peaks[0]:+.1f}"])
    save("memory", table(["work", "peak [MiB]", "above the first"], lines), numbers)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print({"solve": solve, "fit": fit, "large": large}[sys.argv[1]](int(sys.argv[2])))
    else:
        main()
