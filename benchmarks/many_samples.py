"""What learning costs as the samples become many.

    python benchmarks/many_samples.py [--counts 64 256 1024]

The weight of total variation (smoothing 0.02) on K overlapping tiles of 32x32 of the embedded
pictures, each with its own noise (0.1), float64; beyond 392 the tiles come again with other noise.
All methods start from a third of the best weight. The cost is gradients and Hessian-vector
products of single samples until the loss of all K, solved apart and not counted, is within 0.1 %
of its minimum and stays there for two more steps; a long L-BFGS run from near by finds the
minimum. Algorithm 1 searches its step. The stochastic methods have their defaults but for batches
of four samples, and of SRBA sixteen; their cost is looked at after every epoch.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import parser, save, table

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.learn import Algorithm, Status
from bilevel.learn.algorithms import LBFGS, SABA, SOBA, SRBA, Automatic, ProjectedGradient
from bilevel.learn.schedules import Constant

SIZE, NOISE, NEAR, STAYS = 32, 0.1, 1e-3, 3
NAME, BEST, SMOOTHING = "regulariser.log_weight", 0.078, 0.02
METHODS: dict[str, Algorithm[Any]] = {
    "automatic": Automatic(),
    "L-BFGS": LBFGS(),
    "SABA": SABA(batch_size=4),
    "SRBA": SRBA(batch_size=16),
    "SOBA": SOBA(batch_size=4),
    "Algorithm 1, ε = 1e-6": ProjectedGradient(Constant(1e-6)),
}


def problem(count: int, weight: float) -> bl.BilevelProblem:
    """Anew, without warm starts."""
    pictures = bl.data.embedded_images(size=4 * SIZE).double()
    tiles = pictures.unfold(2, SIZE, SIZE // 2).unfold(3, SIZE, SIZE // 2)
    tiles = tiles.reshape(-1, 1, SIZE, SIZE)
    order = torch.randperm(len(tiles), generator=generator(0, "tiles"))
    images = tiles[order.repeat(math.ceil(count / len(tiles)))[:count]].contiguous()
    noise = bl.data.GaussianNoise(NOISE)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=0)
    tv = bl.regularisers.TotalVariation(weight, SMOOTHING, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


class Judge:
    """The loss of all samples relative to its minimum."""

    def __init__(self, count: int) -> None:
        self.problem = problem(count, BEST)
        near = LBFGS(accuracy=bl.Accuracy(first=1e-4), tol=1e-4)
        fit = bl.learn(self.problem, near, budget=bl.Budget(steps=12))
        self.best = fit.theta
        self.least = self._loss(fit.theta)
        self._at, self._excess = math.inf, math.inf

    def excess(self, theta: bl.Theta) -> float:
        """(L(θ) - min L) / min L; the last one again where θ has moved too little to be near."""
        here = float(theta[NAME])
        if abs(here - self._at) > 0.03 or self._excess < 10 * NEAR:
            self._at, self._excess = here, self._loss(theta) / self.least - 1
        return self._excess

    def _loss(self, theta: bl.Theta) -> float:
        """Adjoint-corrected: its error is second order in the accuracy."""
        return self.problem.value_and_grad(theta, tol=2e-4).corrected


def cost(judge: Judge, p: bl.BilevelProblem, algorithm: Algorithm[Any]) -> tuple[int, float, int]:
    """Gradients and products until θ is near the best and stays, the excess, the samples then.

    Infinite excess stands for an end elsewhere.
    """
    state = algorithm.init(p, p.theta)
    near, found = 0, (0, math.inf, 0)
    while True:
        spent = p.cost.gradient_evaluations + p.cost.hvps
        excess = judge.excess(state.evaluation.theta)
        near = near + 1 if excess <= NEAR else 0
        if near == 1:
            found = spent, excess, state.evaluation.samples
        ended = state.status is not Status.RUNNING
        if near >= STAYS or (near and ended):
            return found
        if ended:
            return spent, math.inf, state.evaluation.samples
        state = algorithm.step(p, state)


def main() -> None:
    """One line a number of samples."""
    options = parser(__doc__ or "")
    options.add_argument("--counts", type=int, nargs="+", default=[64, 256, 1024])
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    lines, numbers = [], {}
    for count in chosen.counts:
        judge = Judge(count)
        cells, methods = [], {}
        for name, algorithm in METHODS.items():
            spent, excess, samples = cost(judge, problem(count, BEST / 3), algorithm)
            methods[name] = {"gradients_and_hvps": spent, "excess": excess, "samples": samples}
            cells.append(f"{spent}, {spent / count:.0f} a sample")
            if excess == math.inf:
                cells[-1] += " (missed)"
            print(count, name, methods[name], flush=True)
        weight = math.exp(float(judge.best[NAME]))
        numbers[str(count)] = {"weight": weight, "minimum": judge.least, "methods": methods}
        lines.append([str(count), *cells])
    save("many_samples", table(["samples", *METHODS], lines), numbers)


if __name__ == "__main__":
    main()
