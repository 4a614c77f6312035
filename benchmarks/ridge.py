"""Learned ridge regularisers on whole BSD68 images: passes, seconds, PSNR, and the price of nmAPG.

    python benchmarks/ridge.py --data DIR

DIR/../peers holds the weights of Hertrich et al. 2025. One pass is one application of the filter
cascade or of its transpose; certificates in float64 are counted like all others, a preconditioner
as two. The convex energy is solved to a certified rms of 1e-3, the weakly convex one to a residual
of 1e-3.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import arguments, data_folder, save, table
from torch import Tensor

import bilevel as bl
from bilevel.ground.memory import keep_freed_memory
from bilevel.solve import Solver

GOALS = {"crr": bl.Tolerance(rms=1e-3), "wcrr": bl.Tolerance(residual=1e-3)}
COMPARED = 6


def load(name: str, folder: Path) -> bl.Variational:
    path = folder.parent / "peers" / f"{name}_bilevel_ift_denoising.safetensors"
    ridge = bl.regularisers.RidgeRegulariser.load(path, weakly_convex=name == "wcrr", learn=())
    return bl.Variational(bl.fidelities.SquaredL2(), ridge)


def noisy(x: Tensor, k: int) -> Tensor:
    """As the peer draws its noise."""
    torch.manual_seed(k)
    return x + 0.1 * torch.randn(1, 1, *x.shape[2:])


def solve(
    energy: bl.Variational, y: Tensor, solver: Solver[Any], tol: bl.Tolerance
) -> tuple[bl.Solution, int, float]:
    """Solution, passes and seconds."""
    cost, start = bl.Cost(), time.perf_counter()
    solution = bl.minimise(energy.at(y, cost=cost), solver, tol=tol)
    return solution, cost.operator_applications, time.perf_counter() - start


def with_one_certificate(
    energy: bl.Variational, y: Tensor, solver: Solver[Any], tol: bl.Tolerance
) -> tuple[bl.Solution, int, float]:
    """The same for as many steps as it takes, as if the solver knew when it is done."""
    steps = int(bl.minimise(energy.at(y), solver, tol=tol, check_every=1).require().steps)
    cost, start = bl.Cost(), time.perf_counter()
    solution = bl.minimise(
        energy.at(y, cost=cost), solver, tol=tol, max_steps=steps, check_every=steps
    )
    return solution, cost.operator_applications, time.perf_counter() - start


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def psnr(x: Tensor, target: Tensor) -> float:
    return -10 * math.log10(float((x - target).square().mean()))


def main() -> None:
    """Every image with L-BFGS; a few with nmAPG beside it, one after the other."""
    folder = data_folder(arguments(__doc__ or ""))
    keep_freed_memory()
    images = [x for _, x in bl.data.load_images(folder / "bsd68", grey=True)]
    lines, ratios, numbers = [], [], {}
    for name, tol in GOALS.items():
        energy = load(name, folder)
        solve(energy, noisy(images[0], 0), bl.solvers.LBFGS(), tol)  # warms up, compiles
        runs = []
        for k, x in enumerate(images):
            solution, passes, seconds = solve(energy, noisy(x, k), bl.solvers.LBFGS(), tol)
            met = bool(solution.converged.all())
            runs.append((passes, seconds, psnr(solution.x, x), met))
        passes, seconds, level, met = zip(*runs, strict=True)
        low, high = min(passes), max(passes)
        lines.append(
            [
                name,
                f"{statistics.median(passes):.0f} ({low} to {high})",
                f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
                f"{statistics.mean(level):.3f}",
                f"{sum(met)} of {len(met)}",
            ]
        )
        gains, more, unaided, further = [], [], [], []
        for k in range(0, len(images), len(images) // COMPARED)[:COMPARED]:
            y = noisy(images[k], k)
            _, ours, fast = solve(energy, y, bl.solvers.LBFGS(), tol)
            _, plain_passes, plain = solve(energy, y, bl.solvers.LBFGS(precondition=False), tol)
            other, theirs, slow = with_one_certificate(energy, y, bl.solvers.NMAPG(), tol)
            unaided.append(plain / fast)
            further.append(plain_passes / ours)
            gains.append(slow / fast)
            more.append(theirs / ours)
            if not bool(other.converged.all()):
                raise SystemExit(f"nmAPG did not reach {tol} on image {k}")
        ratios.append([name, *(spread(r) for r in (gains, more, unaided, further))])
        numbers[name] = {
            "passes": passes,
            "seconds": seconds,
            "psnr": level,
            "nmapg_seconds_over_lbfgs": gains,
            "nmapg_passes_over_lbfgs": more,
            "plain_seconds_over_preconditioned": unaided,
            "plain_passes_over_preconditioned": further,
        }
    header = ["energy", "passes", "seconds an image", "mean PSNR [dB]", "reached"]
    beside = ["nmAPG: seconds", "passes", "L-BFGS without preconditioner: seconds", "passes"]
    text = table(header, lines) + "\n\n" + table(["energy", *beside], ratios)
    save("ridge", f"Median (smallest to largest).\n\n{text}", numbers)


if __name__ == "__main__":
    main()
