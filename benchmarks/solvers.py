"""What every smooth solver needs, by condition number: gradients, products and seconds.

    python benchmarks/solvers.py [--threads N]

Denoising with Charbonnier-TV of weight 0.1 and smoothing 1 ... 0.003, noise 25/255, of eight
embedded pictures of 64x64 in float64, each alone, from the data. Gradients and products are
those of the ledger; products are by Hessians or majorisers, values count as neither. Times are
processor time, certificates included.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import arguments, save, table

import bilevel as bl
from bilevel.ground.memory import keep_freed_memory
from bilevel.solve import Solver
from bilevel.solve.solver import State

SIZE, WEIGHT, NOISE = 64, 0.1, 25 / 255
SMOOTHINGS = (1.0, 0.1, 0.03, 0.01, 0.003)
ACCURACIES = (1e-3, 1e-6)
LIMIT = 10_000

SOLVERS: dict[str, Solver[State]] = {
    "Nesterov": bl.solvers.Nesterov(),
    "L-BFGS": bl.solvers.LBFGS(),
    "Newton-CG": bl.solvers.NewtonCG(),
    "half-quadratic": bl.solvers.HalfQuadratic(),
    "Free-FISTA": bl.solvers.FreeFISTA(),
    "nmAPG": bl.solvers.NMAPG(),
    "iPiano": bl.solvers.IPiano(),
    "gradient descent": bl.solvers.GradientDescent(),
}
Record = dict[str, Any]


def measure() -> Iterator[Record]:
    """One record a solver, smoothing, accuracy and picture."""
    images = bl.data.embedded_images(size=SIZE).double()
    noise = bl.data.GaussianNoise(NOISE)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=0)
    for smoothing in SMOOTHINGS:
        tv = bl.regularisers.TotalVariation(WEIGHT, smoothing)
        energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
        bounds = energy.bounds(pairs.y[:1])
        for accuracy in ACCURACIES:
            for name, solver in SOLVERS.items():
                for k in range(len(images)):
                    cost = bl.Cost()
                    objective = energy.at(pairs.y[k : k + 1], cost=cost)
                    start = process_time()
                    tol = bl.Tolerance(rms=accuracy)
                    bl.minimise(objective, solver, tol=tol, max_steps=LIMIT).require()
                    yield {
                        "condition": float(bounds.lipschitz.max() / bounds.mu.min()),
                        "smoothing": smoothing,
                        "accuracy": accuracy,
                        "solver": name,
                        "gradients": cost.gradient_evaluations,
                        "hvps": cost.hvps,
                        "seconds": process_time() - start,
                    }


def lines(groups: Iterable[list[Record]]) -> Iterator[list[str]]:
    """Medians over the pictures, and the least and the greatest."""
    for some in groups:
        yield [
            f"{some[0]['condition']:.0f}",
            f"{some[0]['accuracy']:.0e}",
            some[0]["solver"],
            spread([r["gradients"] for r in some]),
            spread([r["hvps"] for r in some]),
            spread([r["gradients"] + r["hvps"] for r in some]),
            spread([1e3 * r["seconds"] for r in some]),
        ]


def spread(values: list[float]) -> str:
    """Median, least and greatest."""
    found = torch.tensor(values, dtype=torch.float64)
    low, middle, high = (float(found.quantile(q)) for q in (0.0, 0.5, 1.0))
    return f"{middle:.0f} ({low:.0f} to {high:.0f})" if high else "0"


def main() -> None:
    """Measure and save."""
    arguments(__doc__ or "")
    keep_freed_memory()
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in measure():
        words = "{solver}, smoothing {smoothing}, rms {accuracy}"
        groups[words.format(**record)].append(record)
    header = ["condition number", "rms", "solver", "gradients", "products", "both", "ms"]
    note = "Median (least to greatest) over eight pictures."
    text = f"{table(header, list(lines(groups.values())))}\n\n{note}"
    numbers = {
        words: {what: [r[what] for r in some] for what in ("gradients", "hvps", "seconds")}
        for words, some in groups.items()
    }
    save("solvers", text, numbers)


if __name__ == "__main__":
    main()
