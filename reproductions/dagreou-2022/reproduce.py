"""Dagréou et al. 2022: SOBA and SABA on quadratics with a known solution, and on images."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "benchopt_bilevel"))

import torch
from benchmark_utils.quadratics import Quadratics

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.learn import Algorithm
from bilevel.learn.algorithms import MASOBA, SABA, SOBA, SRBA
from bilevel.learn.loops.single_loop import SingleLoop
from bilevel.report.reproduction import Job, Known, Picture, Reproduction, Results, Table
from drawing import draw_curves

NEVER, FLOOR = 1e-30, 1e-22
POWER, LINEAR = "power of t", "factor an epoch"
METHODS: dict[str, tuple[SingleLoop, str]] = {
    "SOBA": (SOBA(batch_size=4, outer_step=0.1, tol=NEVER), POWER),
    "MA-SOBA": (MASOBA(batch_size=4, outer_step=0.1, average=0.5, tol=NEVER), POWER),
    "SABA": (SABA(batch_size=4, outer_step=0.1, tol=NEVER), LINEAR),
    "SRBA": (SRBA(batch_size=4, outer_step=0.1, tol=NEVER), LINEAR),
}


def gradients(method: SingleLoop, seed: int, epochs: int) -> list[float]:
    """‖∇F‖² after each epoch, exactly."""
    data = Quadratics.random(64, 48, 6, 0.3, 1.0, 0.1, seed % 5)
    hessian, linear, _ = data.reduced()
    problem = data.problem()
    away = torch.randn(6, generator=generator(seed, "start"), dtype=torch.float64)
    best = -torch.linalg.solve(hessian, linear)
    state = method.init(problem, {"w": best + away})
    found: list[float] = []
    for _ in range(epochs):
        state = method.step(problem, state)
        slope = hessian @ state.evaluation.theta["w"] + linear
        found.append(float(slope.square().sum()))
    return found


def rate(squares: list[float], kind: str, skipped: int) -> float:
    """Exponent of t, or factor an epoch, by least squares after the first epochs."""
    kept = [(t, s) for t, s in enumerate(squares, 1) if t > skipped and s > FLOOR]
    if len(kept) < 2:
        return math.nan
    t = torch.tensor([k for k, _ in kept], dtype=torch.float64)
    y = torch.tensor([s for _, s in kept], dtype=torch.float64).log()
    x = t.log() if kind == POWER else t
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    return slope if kind == POWER else math.exp(slope)


def quadratics(job: Job) -> dict[str, Any]:
    """Rates of all methods over random starts."""
    starts, epochs = (
        job.pick(full=20, quick=3, smoke=1),
        job.pick(full=40, quick=16, smoke=4),
    )
    skipped = job.pick(full=6, quick=4, smoke=1)
    found: dict[str, Any] = {}
    for k, (name, (method, kind)) in enumerate(METHODS.items()):
        runs: list[list[float]] = []
        for seed in range(starts):
            job.progress((k + seed / starts) / len(METHODS), f"quadratics, {name}")
            runs.append(gradients(method, seed, epochs))
        rates = torch.tensor([rate(one, kind, skipped) for one in runs], dtype=torch.float64)
        ends = torch.tensor(runs, dtype=torch.float64)
        low, middle, high = (float(rates.nanquantile(q)) for q in (0.25, 0.5, 0.75))
        found[name] = {
            "kind": kind,
            "rates": rates.tolist(),
            "quartiles": [low, middle, high],
            "median_curve": ends.median(0).values.tolist(),
            "last": float(ends[:, -1].median()),
        }
    return found


def imaging(job: Job) -> bl.BilevelProblem:
    """Denoising of small pictures with learned weights of DCT filters."""
    size, count = job.pick(full=48, quick=16, smoke=16), job.pick(full=8, quick=8, smoke=2)
    images = bl.data.embedded_images(size)[:count]
    identity = bl.operators.Identity()
    pairs = bl.data.simulate(images, identity, bl.data.GaussianNoise(0.1), seed=0)
    filters = bl.regularisers.dct_filters(3)
    experts = bl.regularisers.FieldsOfExperts(
        filters, 0.01, 0.02, boundary="valid", learn=("weight",)
    )
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts)
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def images(job: Job) -> dict[str, Any]:
    """Loss over gradients and products, and the loss at accurate reconstructions at the end."""
    steps = job.pick(full=40, quick=10, smoke=1)
    algorithms: dict[str, Algorithm[Any]] = {
        "SOBA": SOBA(batch_size=2),
        "SABA": SABA(batch_size=2),
        "MAID": bl.algorithms.MAID(accelerated=True),
    }
    judge, found = imaging(job), {}
    tol = job.pick(full=1e-5, quick=1e-4, smoke=1e-2)
    first = judge.value(judge.theta, tol=tol)
    for k, (name, algorithm) in enumerate(algorithms.items()):
        part = job.part(k / len(algorithms), (k + 1) / len(algorithms))
        fit = part.learn(f"images {name}", imaging(job), algorithm, budget=bl.Budget(steps=steps))
        found[name] = {
            "work": [line.cost.gradient_evaluations + line.cost.hvps for line in fit.history],
            "loss": [line.value for line in fit.history],
            "first": first,
            "last": judge.value(fit.theta, tol=tol),
            "ended": fit.status.name,
            "seconds": fit.cost.seconds,
        }
    return found


def run(job: Job) -> Results:
    """Rates on quadratics, then the images."""
    numbers: dict[str, Any] = {
        "quadratics": quadratics(job.part(0.0, 0.6)),
        "images": images(job.part(0.6, 1.0)),
    }
    curves = {
        name: (list(range(1, 1 + len(n["median_curve"]))), n["median_curve"])
        for name, n in numbers["quadratics"].items()
    }
    draw_curves(curves, job.out / "rates.png", x="epoch", y="‖∇F‖², median", logarithmic="y")
    shown = {name: (n["work"], n["loss"]) for name, n in numbers["images"].items()}
    draw_curves(
        shown, job.out / "images.png", x="gradients and products", y="loss", logarithmic="x"
    )
    first = [
        [
            name,
            n["kind"],
            "{1:.3f} ({0:.3f} to {2:.3f})".format(*n["quartiles"]),
            f"{n['last']:.1e}",
        ]
        for name, n in numbers["quadratics"].items()
    ]
    second = [
        [
            name,
            f"{1e3 * n['first']:.4f}",
            f"{1e3 * n['last']:.4f}",
            str(n["work"][-1]),
            n["ended"],
            f"{n['seconds']:.1f}",
        ]
        for name, n in numbers["images"].items()
    ]
    soba, saba = (numbers["quadratics"][name]["quartiles"][1] for name in ("SOBA", "SABA"))
    said = [
        f"On the quadratics the squared gradient of SOBA falls like t to the power {soba:.2f}, "
        f"that of SABA by a factor of {saba:.3f} an epoch (medians of fits).",
    ]
    return Results(
        numbers,
        [
            Table(
                "Quadratics: what is fitted to ‖∇F‖²",
                ["method", "fit", "median (middle half)", "last ‖∇F‖², median"],
                first,
            ),
            Table(
                "Denoising with eight learned weights, 1000 times the loss",
                ["method", "first", "last", "gradients and products", "ended", "time [s]"],
                second,
            ),
        ],
        said,
        SHORT,
        [
            Picture("rates.png", "Quadratics: the squared gradient over epochs."),
            Picture("images.png", "Denoising: the loss that each method sees, over its work."),
        ],
    )


SHORT = (
    "The paper's experiments with hyper-parameters of classifiers are in bengio-2000; its "
    "data sets of large size are not run.",
    "The losses that SOBA and SABA see on the way are running means, about which nothing is "
    "proved; those of the table are of reconstructions solved anew.",
)

REPRODUCTION = Reproduction(
    name="dagreou-2022",
    title="SOBA and SABA",
    paper="M. Dagréou, P. Ablin, S. Vaiter and T. Moreau, A framework for bilevel optimization "
    "that enables stochastic and global variance reduction algorithms, NeurIPS 2022, arXiv "
    "2201.13409.",
    did=(
        "Lower level, linear system and upper level move at once along directions that are sums "
        "over samples, so that any stochastic method for sums can be used: SOBA is stochastic "
        "gradients, SABA is SAGA.",
    ),
    here=(
        "Random quadratics of 64 and 48 samples, six unknowns and six parameters, whose loss is "
        "known in closed form: 20 starts on five problems, 40 epochs, batches of four, float64.",
        "Then the weights of eight DCT filters for denoising of eight pictures of 48x48 pixels, "
        "each with an x of its own, beside accelerated MAID, which solves the lower level.",
    ),
    run=run,
    known=(
        Known("SOBA: mean of ‖∇F‖² over T iterations", "O(log T / √T)", "Theorem on SOBA"),
        Known("SABA: the same", "O(1/T), linear if F is gradient dominated", "Theorems on SABA"),
    ),
    full="some minutes",
)
