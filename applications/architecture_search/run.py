"""Search from eight seeds, train what they find and ten random cells alike, test.

    python applications/architecture_search/run.py [--all-gradients] [--from search|training|figure]

Writes results.json and cells.png beside this file and prints the table of the README; a later
stage goes on from the results of those before. Options and the cell are chosen by the validation
samples; the test samples are looked at here alone. Seconds are of the processor. Searches are of
first order; ``--all-gradients`` adds one by each of the other approximations.
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
from architecture_search.figures import chosen, draw  # noqa: E402
from architecture_search.gradients import (  # noqa: E402
    Approximation,
    FirstOrder,
    Implicit,
    SecondOrder,
)
from architecture_search.network import Cell, Network, full_cell  # noqa: E402
from architecture_search.training import Training  # noqa: E402

STEPS, WARM_UP, LOWER_STEP, UNROLLED = 300, 100, 0.4, 0.1
APPROXIMATIONS: dict[str, Approximation] = {
    "first order": FirstOrder(),
    "second order": SecondOrder(UNROLLED),
    "second order, differences": SecondOrder(UNROLLED, "differences"),
    "implicit": Implicit(max_steps=3, damping=0.1),
}
TRAINING = Training(epochs=120, step=0.2, channels=8)
SEEDS = range(3)
SEARCHES = [("first order", seed) for seed in range(8)]
OTHERS = [(name, 0) for name in APPROXIMATIONS if name != "first order"]
RANDOM = range(10)
STAGES = ("search", "training", "figure")


def find(name: str, seed: int, train: Labelled, validation: Labelled) -> dict[str, Any]:
    """One search: the cell, its α, what it cost."""
    network = Network(full_cell(), TRAINING.channels)
    problem = search_problem(network, train, validation, seed=seed)
    algorithm = DARTS(
        APPROXIMATIONS[name], lower_step=LOWER_STEP, horizon=STEPS, warm_up=WARM_UP, seed=seed
    )

    def progress(line: bl.Record) -> None:
        if line.step % 60 == 0:
            say(f"{name}: step {line.step}, validation loss {line.value:.3f}")

    start = time.process_time()
    fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=STEPS), record=progress)
    cell = strongest(network.cell, fit.theta["alpha"])
    say(f"{name}: {describe(cell)}")
    return {
        "cell": {f"{i}-{j}": names[0] for (i, j), names in cell.items()},
        "alpha": fit.theta["alpha"].tolist(),
        "loss": [record.value for record in fit.history],
        "seconds": time.process_time() - start,
        "gradients": fit.cost.gradient_evaluations,
        "products": fit.cost.hvps,
    }


def trained(cell: Cell, train: Labelled, *parts: Labelled) -> list[list[float]]:
    """For every part, its accuracies after training from scratch, one a seed."""
    pairs = [TRAINING.accuracies(cell, train, parts, seed) for seed in SEEDS]
    scores = [list(side) for side in zip(*pairs, strict=True)]
    say(f"{', '.join(f'{statistics.mean(side):.4f}' for side in scores)}: {describe(cell)}")
    return scores


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| gradient, seed | search [s] | gradients, products | validation [%] | test [%] | range |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in results["found"].items():
        cost = f"{found['seconds']:.0f} | {found['gradients']:,}, {found['products']:,}"
        lines.append(f"| {name} | {cost} | {_scores(found)} |")
    means = [100 * statistics.mean(entry["accuracy"]) for entry in results["random"]]
    spread = f"{statistics.mean(means):.1f} ± {statistics.stdev(means):.1f}"
    span = f"cells: {min(means):.1f} to {max(means):.1f}"
    lines.append(f"| {len(means)} random, mean ± deviation | | | | {spread} | {span} |")
    best = chosen(results)
    test = 100 * statistics.mean(results["found"][best]["accuracy"])
    gain = f"{test - statistics.mean(means):.1f} points above the mean of random cells"
    lines += ["", f"Chosen by validation samples: {best}; {gain}."]
    return "\n".join(lines)


def _scores(entry: dict[str, Any]) -> str:
    validation, test = (100 * statistics.mean(entry[s]) for s in ("validation", "accuracy"))
    span = f"{100 * min(entry['accuracy']):.1f} to {100 * max(entry['accuracy']):.1f}"
    return f"{validation:.1f} | {test:.1f} | {span}"


def say(text: str) -> None:
    """At once, with the time of day."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> None:
    """All stages, or those from the one named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--from", dest="first", choices=STAGES, default=STAGES[0])
    parser.add_argument("--all-gradients", action="store_true")
    options = parser.parse_args()
    searches = SEARCHES + (OTHERS if options.all_gradients else [])
    torch.set_num_threads(options.threads)
    path, parts = HERE / "results.json", digits()
    results: dict[str, Any] = {}
    if options.first != "search":
        results = json.loads(path.read_text(encoding="utf-8"))
    stages = STAGES[STAGES.index(options.first) :]
    if "search" in stages:
        found = {f"{name}, {seed}": find(name, seed, *parts[:2]) for name, seed in searches}
        results = {"machine": machine(), "found": found}
        save(path, results)
    if "training" in stages:
        start = time.process_time()
        train, validation, unseen = parts
        for entry in results["found"].values():
            cell = as_cell(entry["cell"])
            entry["validation"], entry["accuracy"] = trained(cell, train, validation, unseen)
        results["random"] = [
            {"cell": describe(cell), "accuracy": trained(cell, train, unseen)[0]}
            for cell in map(random_cell, RANDOM)
        ]
        results["training seconds"] = time.process_time() - start
        save(path, results)
    draw(results, HERE / "cells.png")
    print(table(results))


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
    }


def as_cell(named: dict[str, str]) -> Cell:
    """From the keys of JSON, "0-1"."""
    return {(int(key[0]), int(key[-1])): (name,) for key, name in named.items()}


def save(path: Path, results: dict[str, Any]) -> None:
    """Kept after every stage."""
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
