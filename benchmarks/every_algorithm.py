"""Every algorithm of the catalogue, on problems with known solutions and on hard images.

    python benchmarks/every_algorithm.py {quadratics,images} [--starts N] [--longer N --only a,b]

Quadratics: N random problems and starts (20), one choice of options for all of them. "one x": 6
unknowns, 3 parameters, sums of 24 and 20 samples; "an x each": 5 images of 6x6, 3 parameters;
searches look for 3 scalars in a box of side 2. Cost counts gradients and Hessian-vector products of
single samples.

``--longer 4 --only hoag,bome`` takes four times the steps, to tell who is slow from who is wrong.

Images: denoising of 4 crops of 24x24 with convex ridges (C^{1,1}, with kinks) or Student-t experts
(not convex), two 3x3 filters and all other parameters learned, default options, 15 steps. Losses
are those of both ends on a problem made anew, solved to 1e-5. Then the same with absurd options and
starts, on 2 crops of 12x12 whose lower level may take 200 steps only: 3 steps.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import torch
from common import parser, save, table

import bilevel as bl
from bilevel.ground.errors import BilevelError
from bilevel.learn import Algorithm, Status
from contracts.algorithms import (
    ABSURD,
    DEFAULTS,
    KINDS,
    QUADRATICS,
    absurd,
    away,
    imaging,
    quadratic,
)

TELLING = (Status.WORSE, Status.DIVERGED, Status.BROKEN)


def options(algorithm: Algorithm[Any]) -> str:
    """What differs from the defaults."""
    plain = dict(vars(algorithm))
    defaults = vars(type(algorithm)(box=plain["box"]) if "box" in plain else type(algorithm)())
    changed = {k: v for k, v in plain.items() if v != defaults[k]}
    changed.pop("box", None)
    return ", ".join(f"{name}={value}" for name, value in changed.items()) or "defaults"


def quadratics(starts: int, longer: int, only: list[str]) -> None:
    """One line an algorithm."""
    lines: list[list[str]] = []
    numbers: dict[str, Any] = {}
    for name in only or QUADRATICS:
        case = QUADRATICS[name]
        off: list[float] = []
        cost: list[int] = []
        ends: Counter[str] = Counter()
        for seed in range(starts):
            problem, start, solution = quadratic(case.kind, seed)
            budget = bl.Budget(steps=longer * case.steps)
            fit = bl.learn(problem, case.algorithm, start, budget=budget)
            off.append(away(fit.theta, solution) / away(start, solution))
            cost.append(fit.cost.gradient_evaluations + fit.cost.hvps)
            ends[fit.status.name.lower()] += 1
        came = sum(value <= case.within for value in off)
        lines.append(
            [
                name,
                case.kind,
                f"{came} of {starts}",
                f"{case.within:g}",
                f"{statistics.median(off):.1e}",
                f"{max(off):.1e}",
                f"{statistics.median(cost):.0f}",
                ", ".join(f"{count} {end}" for end, count in ends.most_common()),
                options(case.algorithm),
            ]
        )
        numbers[name] = {"relative distance": off, "cost": cost, "ends": ends}
        print(lines[-1], flush=True)
    header = [
        "algorithm",
        "problem",
        "came",
        "within",
        "median",
        "worst",
        "cost",
        "ends",
        "options",
    ]
    file = f"every_algorithm_quadratics_{longer}_times" if only else "every_algorithm_quadratics"
    save(file, table(header, lines), {"runs": numbers})


Case = tuple[str, str, str, float, Algorithm[Any]]


def images() -> None:
    """Defaults with both ends, then how absurd settings end."""
    cases: list[Case] = []
    for kind in KINDS:
        for name, algorithm in DEFAULTS.items():
            cases += [
                (kind, "defaults", name, 1.0, algorithm),
                (kind, "θ x 100", name, 100.0, algorithm),
            ]
            for how in ABSURD:
                changed = absurd(algorithm, how)
                if changed is not None:
                    cases.append((kind, how, name, 1.0, changed))
    cases.sort(key=lambda case: case[1] != "defaults")
    lines: list[list[str]] = []
    numbers: list[dict[str, Any]] = []
    for case in cases:
        numbers.append(found := run(case))
        lines.append([str(value) for value in found.values()])
        print(lines[-1], flush=True)
    header = list(numbers[0])
    silent = sum(found["silent"] == "yes" for found in numbers)
    text = f"{table(header, lines)}\n\nWorse without telling: {silent} of {len(lines)} runs."
    save("every_algorithm_images", text, {"runs": numbers})


def run(case: Case) -> dict[str, Any]:
    """How it ended, and the losses of both ends."""
    kind, how, name, factor, algorithm = case
    plain = how == "defaults"
    size: dict[str, int] = {} if plain else {"size": 12, "count": 2, "max_steps": 200}
    steps, most = (15, 20_000) if plain else (3, 5_000)
    problem = imaging(kind, **size)
    start = problem.space.project({key: factor * v for key, v in problem.theta.items()})
    budget = bl.Budget(steps=steps, gradient_evaluations=most)
    row = {"energy": kind, "setting": how, "algorithm": name}
    try:
        fit = bl.learn(problem, algorithm, start, budget=budget)
    except BilevelError as error:
        blank = dict.fromkeys(("at start", "at end", "missed", "cost", "silent"), "")
        return {**row, "end": "refused", "reason": str(error), **blank}
    ends: list[float] = []
    for theta in (start, fit.theta):
        judge = imaging(kind, **{**size, "max_steps": 3000})
        ends.append(judge.value(theta, tol=1e-5))
    last = fit.history[-1]
    worse = not ends[1] <= 1.01 * ends[0]
    return {
        **row,
        "end": fit.status.name.lower(),
        "reason": fit.reason,
        "at start": f"{ends[0]:.5f}",
        "at end": f"{ends[1]:.5f}",
        "missed": last.uncertified,
        "cost": fit.cost.gradient_evaluations + fit.cost.hvps,
        "silent": "yes" if worse and fit.status not in TELLING else "no",
    }


def main() -> None:
    """One of the two tables."""
    chosen = parser(__doc__ or "")
    chosen.add_argument("--starts", type=int, default=20)
    chosen.add_argument("--longer", type=int, default=1)
    chosen.add_argument("--only", default="")
    chosen.add_argument("table", choices=("quadratics", "images"))
    found = chosen.parse_args()
    torch.set_num_threads(found.threads)
    if found.table == "images":
        images()
    else:
        quadratics(found.starts, found.longer, list(filter(None, found.only.split(","))))


if __name__ == "__main__":
    main()
