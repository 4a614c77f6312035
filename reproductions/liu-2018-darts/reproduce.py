"""Liu, Simonyan and Yang 2018: cells searched by gradients, trained beside random ones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from architecture_search.cells import describe, random_cell, strongest
from architecture_search.darts import DARTS
from architecture_search.digits import Labelled, digits, search_problem
from architecture_search.figures import chosen, draw
from architecture_search.gradients import Approximation, FirstOrder, Implicit, SecondOrder
from architecture_search.network import Cell, Network, full_cell
from architecture_search.training import Training

import bilevel as bl
from bilevel.report.reproduction import Job, Known, Picture, Reproduction, Results, Table

LOWER_STEP, UNROLLED = 0.4, 0.1
APPROXIMATIONS: dict[str, Approximation] = {
    "first order": FirstOrder(),
    "second order": SecondOrder(UNROLLED),
    "second order, differences": SecondOrder(UNROLLED, "differences"),
    "implicit": Implicit(max_steps=3, damping=0.1),
}
TRAINING = Training(epochs=120, step=0.2, channels=8)
LOOKS = (0, 60, 90, 120)


def searcher(seed: int, steps: int) -> DARTS:
    """Of first order, with the options of all searches."""
    warm_up = steps // 3
    return DARTS(FirstOrder(), lower_step=LOWER_STEP, horizon=steps, warm_up=warm_up, seed=seed)


def find(job: Job, seed: int, parts: tuple[Labelled, ...], training: Training) -> dict[str, Any]:
    """One search: the cell, its α, what it cost."""
    steps = job.pick(full=300, quick=30, smoke=3)
    network = Network(full_cell(), training.channels)
    problem = search_problem(network, parts[0], parts[1], seed=seed)
    start = time.process_time()
    fit = job.learn(f"search {seed}", problem, searcher(seed, steps), budget=bl.Budget(steps=steps))
    cell = strongest(network.cell, fit.theta["alpha"])
    return {
        "cell": {f"{i}-{j}": names[0] for (i, j), names in cell.items()},
        "alpha": fit.theta["alpha"].tolist(),
        "first_loss": fit.history[0].value,
        "last_loss": fit.history[-1].value,
        "seconds": time.process_time() - start,
        "gradients": fit.cost.gradient_evaluations,
        "products": fit.cost.hvps,
    }


def trained(
    job: Job, training: Training, cells: Sequence[Cell], parts: tuple[Labelled, ...]
) -> list[dict[str, list[float]]]:
    """Of each cell, accuracies after training from scratch, one a seed."""
    seeds, found = job.pick(full=3, quick=1, smoke=1), []
    train, validation, unseen = parts
    for k, cell in enumerate(cells):
        job.progress(k / len(cells), "training")
        pairs = [training.accuracies(cell, train, (validation, unseen), s) for s in range(seeds)]
        found.append({"validation": [p[0] for p in pairs], "accuracy": [p[1] for p in pairs]})
    return found


def agreement(job: Job, parts: tuple[Labelled, ...], channels: int) -> dict[str, dict[str, float]]:
    """Cosine of each gradient to the exact second-order one along a first-order search."""
    looks = job.pick(full=LOOKS, quick=(0,), smoke=(0,))
    problem = search_problem(Network(full_cell(), channels), parts[0], parts[1], seed=0)
    algorithm = replace(searcher(0, 300), warm_up=100)
    state = algorithm.init(problem, problem.theta)
    found: dict[str, dict[str, float]] = {name: {} for name in APPROXIMATIONS}
    for step in range(max(looks) + 1):
        job.progress(step / (max(looks) + 1), "agreement of the gradients")
        if step in looks:
            grads = {
                name: replace(algorithm, approximation=one).look(problem, state).theta["alpha"]
                for name, one in APPROXIMATIONS.items()
            }
            exact = grads["second order"].flatten()
            for name, grad in grads.items():
                found[name][str(step)] = float(torch.cosine_similarity(grad.flatten(), exact, 0))
        state = algorithm.step(problem, state)
    return found


def rows(numbers: dict[str, Any]) -> list[list[str]]:
    """A line a search, and one for the random cells."""
    lines: list[list[str]] = []
    for name, found in numbers["found"].items():
        cost = f"{found['gradients']}, {found['products']}"
        lines.append([name, f"{found['seconds']:.0f}", cost, *_scores(found)])
    means = [100 * statistics.mean(entry["accuracy"]) for entry in numbers["random"]]
    spread = f"{statistics.mean(means):.1f} ± {statistics.stdev(means):.1f}"
    span = f"cells: {min(means):.1f} to {max(means):.1f}"
    lines.append([f"{len(means)} random, mean ± deviation", "", "", "", spread, span])
    return lines


def _scores(entry: dict[str, Any]) -> list[str]:
    validation, test = (100 * statistics.mean(entry[s]) for s in ("validation", "accuracy"))
    span = f"{100 * min(entry['accuracy']):.1f} to {100 * max(entry['accuracy']):.1f}"
    return [f"{validation:.1f}", f"{test:.1f}", span]


def run(job: Job) -> Results:
    """Search, train what was found and random cells alike, test."""
    parts = digits(*job.pick(full=(300, 300), quick=(300, 300), smoke=(60, 60)))
    training = replace(
        TRAINING,
        epochs=job.pick(full=120, quick=10, smoke=1),
        channels=job.pick(full=8, quick=4, smoke=2),
    )
    searches = job.pick(full=8, quick=2, smoke=1)
    found: dict[str, dict[str, Any]] = {}
    for seed in range(searches):
        part = job.part(0.4 * seed / searches, 0.4 * (seed + 1) / searches)
        found[f"first order, {seed}"] = find(part, seed, parts, training)
    cells = [as_cell(entry["cell"]) for entry in found.values()]
    scores = trained(job.part(0.4, 0.6), training, cells, parts)
    found = {name: found[name] | own for name, own in zip(found, scores, strict=True)}
    cells = [random_cell(k) for k in range(job.pick(full=10, quick=3, smoke=2))]
    scores = trained(job.part(0.6, 0.9), training, cells, parts)
    random = [{"cell": describe(c), **own} for c, own in zip(cells, scores, strict=True)]
    numbers = {
        "found": found,
        "random": random,
        "agreement": agreement(job.part(0.9, 1.0), parts, training.channels),
    }
    draw(numbers, job.out / "cells.png")
    return told(numbers)


def told(numbers: dict[str, Any]) -> Results:
    """Tables and sentences of what was found."""
    best, means = chosen(numbers), [statistics.mean(e["accuracy"]) for e in numbers["random"]]
    test = 100 * statistics.mean(numbers["found"][best]["accuracy"])
    mean, spread = 100 * statistics.mean(means), 100 * statistics.stdev(means)
    found = [statistics.mean(e["accuracy"]) for e in numbers["found"].values()]
    numbers |= {
        "chosen": best,
        "chosen_test": test,
        "random_mean": mean,
        "random_deviation": spread,
        "found_mean": 100 * statistics.mean(found),
        "best_random": 100 * max(means),
    }
    cosines = [
        [name, *(f"{value:.2f}" for value in found.values())]
        for name, found in numbers["agreement"].items()
    ]
    said = [
        f"The cell chosen by validation samples ({best}) has {test:.1f} % of the test samples, "
        f"random cells have {mean:.1f} ± {spread:.1f} % in the mean.",
        f"All searches have {numbers['found_mean']:.1f} % in the mean, the luckiest random cell "
        f"{numbers['best_random']:.1f} %.",
    ]
    looks = list(numbers["agreement"]["first order"])
    return Results(
        numbers,
        [
            Table(
                "Searches, and cells drawn uniformly",
                [
                    "gradient, seed",
                    "search [processor s]",
                    "gradients, products",
                    "validation [%]",
                    "test [%]",
                    "range",
                ],
                rows(numbers),
            ),
            Table(
                "Cosine to the exact second-order gradient",
                ["", *(f"step {look}" for look in looks)],
                cosines,
            ),
        ],
        said,
        SHORT,
        [Picture("cells.png", "Test accuracies, and the best cells by validation samples.")],
    )


def as_cell(named: dict[str, str]) -> Cell:
    """From the keys of JSON, "0-1"."""
    return {(int(key[0]), int(key[-1])): (name,) for key, name in named.items()}


SHORT = (
    "Digits of 8x8 pixels and cells of three nodes stand in for CIFAR-10 and the cells of the "
    "paper: error rates cannot be compared, only what a search is worth beside random cells.",
    "Searches were set up after the test figures of weaker settings had been seen; options were "
    "chosen by validation samples.",
    "Searches by the second-order gradient, the better one of the paper, are left out for time.",
    "Three seeds of one cell differ by about as much as the cells that searches find.",
    "Searches follow rounding: on another processor the same seed leads to other weights, and to "
    "other cosines from about step 90 on.",
    "Inside a search neither the weights nor the adjoint are solved: the history says that "
    "nothing is proved of its gradients.",
)

REPRODUCTION = Reproduction(
    name="liu-2018-darts",
    title="Differentiable architecture search",
    paper="H. Liu, K. Simonyan and Y. Yang, DARTS: Differentiable architecture search, ICLR 2019, "
    "arXiv 1806.09055.",
    did=(
        "All candidate operations on every edge of a cell are mixed with softmax weights α, which "
        "are learned on validation samples while the weights of the network are learned on "
        "training samples: a bilevel problem, whose gradient is taken through no step (first "
        "order) or one step (second order) of the lower level.",
        "The strongest operations make the cell, which is then trained from scratch.",
    ),
    here=(
        "The same on 8x8 digits: 300 for training, 300 for validation, 1197 for the test; a 1x1 "
        "convolution, a cell, a halving, the same cell, a mean and a linear map; 8 channels, six "
        "edges, seven candidates.",
        "A search takes 300 steps of 50 samples at each level, the first 100 of which warm up the "
        "weights. What is found and ten cells drawn uniformly are trained for 120 epochs alike, "
        "with three seeds.",
        "Eight searches are of first order. Along one of them both gradients of the paper are "
        "compared with its finite differences and with the implicit gradient, by three damped "
        "steps of conjugate gradients.",
    ),
    run=run,
    known=(
        Known("test error on CIFAR-10, first order", "3.00 ± 0.14 %", "Table 1"),
        Known("test error on CIFAR-10, second order", "2.76 ± 0.09 %", "Table 1"),
        Known("test error on CIFAR-10, random search", "3.29 ± 0.15 %", "Table 1"),
    ),
    full="about ten minutes",
    packages=("sklearn",),
)
