"""Calatroni, De los Reyes, Schönlieb 2017: infimal convolutions of fidelities for mixed noise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import numpy as np
from mixed_noise import KINDS, RESIDUAL, SMOOTHING, Model, gain, images, limits, psnr
from torch import Tensor

import bilevel as bl
from bilevel.report.reproduction import Job, Picture, Reproduction, Results, Table
from drawing import draw_images


def crops(job: Job) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
    """To learn from and to judge on: of BSDS500, or embedded ones."""
    count, side = job.pick(full=20, quick=4, smoke=1), job.pick(full=96, quick=32, smoke=16)
    if job.data is not None:
        parts = ("train", "test")
        return {part: images(job.data / "bsds500" / part, count, side) for part in parts}
    x, names = bl.data.embedded_images(side), bl.data.embedded_names()
    return {
        "train": (x[:count], names[:count]),
        "test": (x[count : 2 * count], names[count : 2 * count]),
    }


def problem(model: Model, pairs: bl.data.Pairs) -> bl.BilevelProblem:
    """Weights of the fidelity beside a total variation of weight 1, for the mean PSNR."""
    own = bl.data.Pairs(model.prepare(pairs.y), pairs.target, pairs.ids)
    tv = bl.regularisers.TotalVariation(1.0, SMOOTHING, learn=())
    return bl.BilevelProblem(bl.Variational(model.build(), tv), bl.losses.PSNR(), own)


def run(job: Job) -> Results:
    """Both kinds of noise, with all models."""
    clean, numbers = crops(job), dict[str, Any]()
    shown: dict[str, Tensor] = {}
    steps, done = job.pick(full=20, quick=4, smoke=1), 0
    count = sum(len(models) for _, models in KINDS.values())
    for kind, (noise, models) in KINDS.items():
        pairs = {
            part: bl.data.simulate(x, bl.operators.Identity(), noise, seed=0, ids=ids)
            for part, (x, ids) in clean.items()
        }
        test, found = pairs["test"], dict[str, Any]()
        shown |= {"truth": test.target[:1], kind: test.y[:1]}
        for name, model in models.items():
            part = job.part(done / count, (done + 1) / count)
            budget, lbfgs = bl.Budget(steps=steps), bl.algorithms.LBFGS()
            fit = part.learn(
                f"{kind}, {name}", problem(model, pairs["train"]), lbfgs, budget=budget
            )
            done += 1
            solution = fit.reconstruct(model.prepare(test.y), bl.Tolerance(residual=RESIDUAL))
            found[name] = {
                "role": model.role,
                "psnr": psnr(solution.x, test.target).tolist(),
                "weights": {
                    key.removeprefix("fidelity.").replace("log_", ""): float(value.exp())
                    for key, value in fit.theta.items()
                },
                "converged": int(solution.converged.sum()),
                "status": fit.status.name,
            }
        data = psnr(test.y, test.target).tolist()
        numbers[kind] = {"data": data, "models": found, "limits": limits(test)}
    draw_images(shown, job.out / "images.png")
    return told(numbers)


def told(numbers: dict[str, Any]) -> Results:
    """Tables and sentences of what was found."""
    tables: list[Table] = []
    said: list[str] = []
    for kind, own in numbers.items():
        models, lines = own["models"], list[list[str]]()
        mixed = models["infimal convolution"]["psnr"]
        for name, model in models.items():
            weights = ", ".join(f"{key} {value:.3g}" for key, value in model["weights"].items())
            mean, error = gain(mixed, model["psnr"]) if len(mixed) > 1 else (0.0, 0.0)
            more = "" if name == "infimal convolution" else f"{mean:+.3f} ± {error:.3f}"
            lines.append([name, f"{np.mean(model['psnr']):.3f}", more, weights])
            if model["role"] == "pure":
                said.append(
                    f"{kind}: the infimal convolution has {mean:+.3f} ± {error:.3f} dB against "
                    f"{name} alone."
                )
        header = ["fidelity", "PSNR [dB]", "gain of the infimal convolution", "learned"]
        tables.append(Table(f"{kind}, data at {np.mean(own['data']):.2f} dB", header, lines))
    worst = max(value for own in numbers.values() for value in own["limits"].values())
    said.append(
        f"With one weight of 1e10 infimal convolutions are the other fidelity up to {worst:.1e}."
    )
    caption = "One of the crops and its data, for both kinds of noise."
    return Results(numbers, tables, said, SHORT, [Picture("images.png", caption)])


SHORT = (
    "The paper solves for given weights by semismooth Newton methods and shows the parts of the "
    "noise; here weights are learned, and the parts are not shown.",
    "Student's t, which the paper does not have, may do better on impulses.",
)

REPRODUCTION = Reproduction(
    name="calatroni-2017-mixed-noise",
    title="Infimal convolutions of fidelities for mixed noise",
    paper="L. Calatroni, J. C. De los Reyes and C.-B. Schönlieb, Infimal convolution of data "
    "discrepancies for mixed noise removal, SIAM Journal on Imaging Sciences 10(3), 2017, arXiv "
    "1611.00690.",
    did=(
        "Noise of two kinds at once, Gaussian with impulses or with photons, is split by an "
        "infimal convolution of the fidelities of either kind, beside a total variation; the "
        "model is a joint maximum a posteriori estimate, and with one weight at infinity it is "
        "the other fidelity alone.",
    ),
    here=(
        "Gaussian noise of 0.05 with 10 % salt and pepper, and photons (30 at grey value 1) with "
        "read noise of 1.5 photons, on 20 crops of 96x96 pixels to learn from and 20 others to "
        "judge on.",
        "Total variation has weight 1 and all weights of the fidelities are learned for the mean "
        "PSNR by L-BFGS: infimal convolutions, sums, each fidelity alone, and others in use.",
        "Gains are means over the crops, ± their standard error.",
    ),
    run=run,
    needs=("bsds500",),
    full="some minutes",
)
