"""How far the four gradients are from each other along a first-order search.

    python applications/architecture_search/agreement.py

Prints relative distance and cosine to the exact second-order gradient, on the same minibatch.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from architecture_search.darts import DARTS
from architecture_search.digits import digits, search_problem
from architecture_search.network import Network, full_cell
from architecture_search.run import (
    APPROXIMATIONS,
    LOWER_STEP,
    STEPS,
    TRAINING,
    WARM_UP,
)

LOOKS = (0, 60, 90, 120)


def main() -> None:
    """One line for every look."""
    torch.set_num_threads(1)
    train, validation, _ = digits()
    problem = search_problem(Network(full_cell(), TRAINING.channels), train, validation, seed=0)
    algorithm = DARTS(
        APPROXIMATIONS["first order"], lower_step=LOWER_STEP, horizon=STEPS, warm_up=WARM_UP
    )
    state = algorithm.init(problem, problem.theta)
    for step in range(max(LOOKS) + 1):
        if step in LOOKS:
            line = [f"step {step:3}"]
            for name, approximation in APPROXIMATIONS.items():
                other = replace(algorithm, approximation=approximation)
                found = other.look(problem, state).theta["alpha"].flatten()
                exact = replace(algorithm, approximation=APPROXIMATIONS["second order"])
                reference = exact.look(problem, state).theta["alpha"].flatten()
                distance = float((found - reference).norm() / reference.norm())
                cosine = float(torch.cosine_similarity(found, reference, 0))
                line.append(f"{name} {distance:.2f}, {cosine:.2f}")
            print(" | ".join(line), flush=True)
        state = algorithm.step(problem, state)


if __name__ == "__main__":
    main()
