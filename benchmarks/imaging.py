"""Many parameters from 64 images: the algorithm that chooses for itself against the best fixed ε.

    python benchmarks/imaging.py [--budget N]

Fields of experts (24 filters of 5x5) and a map of total variation weights on 64 crops of 32x32 of
the embedded pictures, noise 0.1, loss PSNR. Algorithm 1 runs with fixed accuracies and a searched
step up to a budget of gradients and Hessian-vector products; the best is the one with the highest
PSNR of its last θ, solved to rms 1e-5. Of `automatic`, untuned, the table says what it costs to
come within 0.01 dB of that, and where it ends at the same budget.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import parser, save, table

import bilevel as bl
from bilevel.learn import Algorithm, Status
from bilevel.learn.algorithms import MAID, Automatic, ProjectedGradient
from bilevel.learn.schedules import Constant

SIZE, COUNT, NOISE, NEAR = 32, 64, 0.1, 0.01
FIXED = (1e-2, 3e-3, 1e-3, 3e-4)


def problem(regulariser: Callable[[], bl.regularisers.Regulariser]) -> bl.BilevelProblem:
    """Anew, without warm starts."""
    pictures = bl.data.embedded_images(size=4 * SIZE)
    tiles = pictures.unfold(2, SIZE, SIZE).unfold(3, SIZE, SIZE).reshape(-1, 1, SIZE, SIZE)
    images = tiles[torch.arange(COUNT) * (len(tiles) // COUNT)].contiguous()
    noise = bl.data.GaussianNoise(NOISE)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=0)
    energy = bl.Variational(bl.fidelities.SquaredL2(), regulariser())
    return bl.BilevelProblem(energy, bl.losses.PSNR(), pairs)


def experts() -> bl.regularisers.Regulariser:
    """600 numbers and 24 weights."""
    return bl.regularisers.FieldsOfExperts(potential="charbonnier")


def weights() -> bl.regularisers.Regulariser:
    """A weight a pixel."""
    return bl.regularisers.TotalVariation(torch.full((SIZE, SIZE), 0.05), 0.01, learn=("weight",))


PROBLEMS = {"fields of experts": experts, "map of weights": weights}


def path(p: bl.BilevelProblem, algorithm: Algorithm[Any], budget: int) -> Iterator[tuple[int, Any]]:
    """Gradients and products spent, and θ, after every step up to the budget."""
    state = algorithm.init(p, p.theta)
    while True:
        spent = p.cost.gradient_evaluations + p.cost.hvps
        yield spent, state.evaluation.theta
        if spent >= budget or state.status is not Status.RUNNING:
            return
        state = algorithm.step(p, state)


def main() -> None:
    """One line a method and problem."""
    options = parser(__doc__ or "")
    options.add_argument("--budget", type=int, default=40_000)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    lines, numbers = [], {}
    for name, make in PROBLEMS.items():
        judge = problem(make)

        def level(theta: bl.Theta, judge: bl.BilevelProblem = judge) -> float:
            return -judge.value(theta, tol=1e-5)

        fixed: dict[float, float] = {}
        for epsilon in FIXED:
            *_, (_, theta) = path(
                problem(make), ProjectedGradient(Constant(epsilon)), chosen.budget
            )
            fixed[epsilon] = level(theta)
            print(f"{name}, ε = {epsilon:.0e}: {fixed[epsilon]:.3f} dB", flush=True)
        best = max(fixed, key=lambda e: fixed[e])
        methods = {"automatic": Automatic(), "accelerated MAID": MAID(accelerated=True)}
        goal = f"{best:.0e}: {fixed[best]:.3f}"
        for name_of, algorithm in methods.items():
            reached, end = math.inf, -math.inf
            for spent, theta in path(problem(make), algorithm, chosen.budget):
                end = level(theta)
                if end >= fixed[best] - NEAR:
                    reached = min(reached, spent)
            share = reached / chosen.budget
            numbers[f"{name}, {name_of}"] = {"share": share, "end": end, "fixed": fixed}
            lines.append([name, goal, name_of, f"{share:.2f}", f"{end:.3f}"])
            print(lines[-1], flush=True)
    header = ["problem", "best fixed ε: PSNR [dB]", "method"]
    header += ["cost to come within 0.01 dB", "PSNR at the same cost [dB]"]
    save("imaging", table(header, lines), numbers)


if __name__ == "__main__":
    main()
