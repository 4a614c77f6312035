"""Many parameters from 64 images: the algorithm that chooses for itself against the best fixed ε.

    python benchmarks/imaging.py [--budget N]

Fields of experts (24 filters of 5x5) and a map of total variation weights on 64 crops of 32x32 of
the embedded pictures, noise 0.1, loss PSNR. Algorithm 1 runs with fixed accuracies and a searched
step up to a budget of gradients and Hessian-vector products; the best is the one with the highest
PSNR of its last θ, solved to rms 1e-5. The table says what it costs that one, and `automatic`,
untuned, to come within 0.01 dB of this PSNR, and where they end at the same budget.
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
    return bl.regularisers.FieldsOfExperts(potential="charbonnier", boundary="valid")


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


Passage = list[tuple[int, float]]
"""Cost and PSNR after every step."""


def passage(
    make: Callable[[], bl.regularisers.Regulariser],
    algorithm: Algorithm[Any],
    budget: int,
    judge: bl.BilevelProblem,
) -> Passage:
    """Every θ on the way, solved tightly on another problem."""
    steps = path(problem(make), algorithm, budget)
    return [(spent, -judge.value(theta, tol=1e-5)) for spent, theta in steps]


def first(found: Passage, level: float) -> float:
    """What it costs to reach the level."""
    return min((spent for spent, reached in found if reached >= level), default=math.inf)


def main() -> None:
    """One line a method and problem."""
    options = parser(__doc__ or "")
    options.add_argument("--budget", type=int, default=40_000)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    lines, numbers = [], {}
    for name, make in PROBLEMS.items():
        judge = problem(make)
        fixed = {
            epsilon: passage(make, ProjectedGradient(Constant(epsilon)), chosen.budget, judge)
            for epsilon in FIXED
        }
        best = max(fixed, key=lambda e: fixed[e][-1][1])
        found = {
            f"ε = {best:.0e}, the best": fixed[best],
            "automatic": passage(make, Automatic(), chosen.budget, judge),
            "accelerated MAID": passage(make, MAID(accelerated=True), chosen.budget, judge),
        }
        level = fixed[best][-1][1] - NEAR
        for method, steps in found.items():
            cost = first(steps, level)
            lines.append([name, method, f"{cost:.0f}", f"{steps[-1][0]}", f"{steps[-1][1]:.3f}"])
            numbers[f"{name}, {method}"] = {"cost": cost, "steps": steps}
            print(lines[-1], flush=True)
        numbers[f"{name}, fixed"] = {e: steps[-1] for e, steps in fixed.items()}
    header = ["problem", "method", "cost to come within 0.01 dB", "cost in all", "PSNR [dB]"]
    save("imaging", table(header, lines), numbers)


if __name__ == "__main__":
    main()
