"""Search by four gradients, train what they find and ten random cells alike, test.

    python applications/architecture_search/run.py [--threads 1] [--figure-only]

Writes results.json and cells.png beside this file and prints the table of the README.
All options were fixed by the validation samples; the test samples are looked at here alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402

import bilevel as bl  # noqa: E402
from architecture_search.cells import describe, random_cell, strongest  # noqa: E402
from architecture_search.darts import DARTS  # noqa: E402
from architecture_search.digits import Labelled, digits, search_problem  # noqa: E402
from architecture_search.figures import draw  # noqa: E402
from architecture_search.gradients import (  # noqa: E402
    Approximation,
    FirstOrder,
    Implicit,
    SecondOrder,
)
from architecture_search.network import Cell, Network, full_cell  # noqa: E402
from architecture_search.training import Training  # noqa: E402

STEPS, WARM_UP, LOWER_STEP = 300, 60, 0.1
APPROXIMATIONS: dict[str, Approximation] = {
    "first order": FirstOrder(),
    "second order": SecondOrder(LOWER_STEP),
    "second order, differences": SecondOrder(LOWER_STEP, "differences"),
    "implicit": Implicit(max_steps=3, damping=0.1),
}
TRAINING = Training(epochs=60, step=0.2, channels=8)
SEEDS = range(3)
RANDOM = range(10)


def find(name: str, train: Labelled, validation: Labelled) -> tuple[Cell, dict[str, Any]]:
    """One search: the cell, its α, what it cost."""
    network = Network(full_cell(), TRAINING.channels)
    problem = search_problem(network, train, validation, seed=0)
    algorithm = DARTS(
        APPROXIMATIONS[name], lower_step=LOWER_STEP, horizon=STEPS, warm_up=WARM_UP, step_size=0.03
    )

    def progress(line: bl.Record) -> None:
        if line.step % 60 == 0:
            say(f"{name}: step {line.step}, validation loss {line.value:.3f}")

    start = time.perf_counter()
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=STEPS), record=progress)
    cell = strongest(network.cell, fit.theta["alpha"])
    say(f"{name}: {describe(cell)}")
    return cell, {
        "cell": {f"{i}-{j}": names[0] for (i, j), names in cell.items()},
        "alpha": fit.theta["alpha"].tolist(),
        "loss": [record.value for record in fit.history],
        "seconds": time.perf_counter() - start,
        "gradients": fit.cost.gradient_evaluations,
        "products": fit.cost.hvps,
    }


def tested(cell: Cell, train: Labelled, unseen: Labelled) -> list[float]:
    """Accuracies after training from scratch, one a seed, in [0, 1]."""
    found = [TRAINING.accuracy(cell, train, unseen, seed) for seed in SEEDS]
    say(f"{statistics.mean(found):.4f}  {describe(cell)}")
    return found


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| cell | search [s] | gradients, products | test accuracy [%] | seeds from-to [%] |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, found in results["found"].items():
        seeds = [100 * a for a in found["accuracy"]]
        cost = f"{found['gradients']:,}, {found['products']:,}"
        span = f"{min(seeds):.1f}-{max(seeds):.1f}"
        lines.append(
            f"| {name} | {found['seconds']:.0f} | {cost} | {statistics.mean(seeds):.1f} | {span} |"
        )
    means = [100 * statistics.mean(entry["accuracy"]) for entry in results["random"]]
    spread = f"{statistics.mean(means):.1f} ± {statistics.stdev(means):.1f}"
    lines.append(
        f"| {len(means)} random cells | | | {spread} | {min(means):.1f}-{max(means):.1f} |"
    )
    return "\n".join(lines)


def say(text: str) -> None:
    """At once, with the time of day."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> None:
    """Everything, or the picture of what was found before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figure-only", action="store_true")
    chosen = parser.parse_args()
    path = HERE / "results.json"
    if not chosen.figure_only:
        path.write_text(json.dumps(measured(chosen.threads), indent=1) + "\n", encoding="utf-8")
    results = json.loads(path.read_text(encoding="utf-8"))
    draw(results, HERE / "cells.png")
    print(table(results))


def measured(threads: int) -> dict[str, Any]:
    """All searches first, then all tests."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    train, validation, unseen = digits()
    found: dict[str, dict[str, Any]] = {}
    cells: dict[str, Cell] = {}
    for name in APPROXIMATIONS:
        cells[name], found[name] = find(name, train, validation)
    for name, cell in cells.items():
        found[name]["accuracy"] = tested(cell, train, unseen)
    drawn = [random_cell(seed) for seed in RANDOM]
    random = [{"cell": describe(c), "accuracy": tested(c, train, unseen)} for c in drawn]
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": threads,
        "processor": platform.machine(),
    }
    seconds = time.perf_counter() - start
    return {"machine": machine, "seconds": seconds, "found": found, "random": random}


if __name__ == "__main__":
    main()
