"""Semi-blind deblurring: kernels learned with the weight of a total variation from four pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar

import bilevel as bl
from bilevel.report.reproduction import Job, Picture, Reproduction, Results, Table
from drawing import draw_images

WIDTH, COUNT = 1.2, 4
WEIGHT, SIGMA = "regulariser.terms.0.log_weight", "fidelity.operator.sigma"


def problem(job: Job, operator: bl.operators.Operator, noise: float) -> bl.BilevelProblem:
    """With a total variation whose weight is learned, in float64."""
    size, count = job.pick(full=64, quick=32, smoke=16), job.pick(full=COUNT, quick=2, smoke=1)
    images = bl.data.embedded_images(size=size)[:count].double()
    true = bl.operators.GaussianBlur(WIDTH, side(job), "reflecting").double()
    pairs = bl.data.simulate(images, true, bl.data.GaussianNoise(noise), seed=0)
    tv = bl.regularisers.TotalVariation(1e-3, 0.01, learn=("weight",))
    ridge = bl.regularisers.Tikhonov(1e-4, learn=())
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), tv + ridge).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def side(job: Job) -> int:
    """Of the kernels [pixel]."""
    return job.pick(full=7, quick=7, smoke=3)


def learned(job: Job, what: str, p: bl.BilevelProblem) -> tuple[bl.Fit, float]:
    """A fit, and its loss."""
    budget = bl.Budget(
        steps=job.pick(full=200, quick=15, smoke=1), seconds=job.seconds(full=300, quick=20)
    )
    fit = job.learn(what, p, budget=budget)
    return fit, p.value(fit.theta, tol=tolerance(job))


def tolerance(job: Job) -> float:
    """Of losses that are compared, rms [grey value]."""
    return job.pick(full=1e-6, quick=1e-4, smoke=1e-2)


def profile(job: Job, p: bl.BilevelProblem, fit: bl.Fit) -> tuple[float, float]:
    """The width of least loss and that loss, the weight minimised at every width.

    In steps of 4 % around the learned width, then of half a per cent, and by a parabola.
    """
    centre, log_weight = float(fit.theta[SIGMA]), float(fit.theta[WEIGHT])

    def least(width: float) -> float:
        def value(w: float) -> float:
            theta = {SIGMA: torch.tensor(width).double(), WEIGHT: torch.tensor(w).double()}
            return p.value(theta, tol=tolerance(job))

        span = (log_weight - 0.5, log_weight + 0.5)
        rough = {"xatol": job.pick(full=1e-2, quick=5e-2, smoke=0.5)}
        return float(minimize_scalar(value, bounds=span, method="bounded", options=rough).fun)

    half = job.pick(full=2, quick=1, smoke=1)
    wide = centre * (1 + 0.04 * np.arange(-half, half + 1))
    middle = float(wide[int(np.argmin([least(w) for w in wide]))])
    half = job.pick(full=4, quick=1, smoke=1)
    fine = middle * (1 + 0.005 * np.arange(-half, half + 1))
    losses: list[float] = []
    for k, width in enumerate(fine):
        job.progress(k / len(fine), "dense search")
        losses.append(least(width))
    a, b, _ = np.polyfit(fine - middle, np.array(losses), 2)
    return float(middle - b / (2 * a)), min(losses)


def at_level(job: Job, level: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Width and free kernel learned, beside the dense search and the true kernel."""
    noise, taps_of = level / 255, bl.operators.GaussianBlur
    true = taps_of(WIDTH, side(job), "reflecting").double()
    known, reference = learned(job.part(0.0, 0.15), "true kernel", problem(job, true, noise))
    blur = taps_of(2.0, side(job), "reflecting", learn=("sigma",))
    p = problem(job, blur, noise)
    fit, loss = learned(job.part(0.15, 0.3), "width", p)
    width = float(fit.theta[SIGMA])
    best, least = profile(job.part(0.3, 0.8), p, fit)
    flat = taps_of(2.0, side(job)).taps().detach()
    free = bl.operators.Convolution(flat, "reflecting", learn=("kernel",), simplex=True)
    free_fit, free_loss = learned(job.part(0.8, 1.0), "free kernel", problem(job, free, noise))
    taps, aim = free_fit.theta["fidelity.operator.kernel"], true.taps().detach()
    numbers = {
        "width": width,
        "width_of_dense_search": best,
        "apart_percent": 100 * abs(width / best - 1),
        "from_the_truth_percent": 100 * (width / WIDTH - 1),
        "loss_of_true_kernel": reference,
        "loss": loss,
        "loss_of_dense_search": least,
        "loss_ratio": loss / reference,
        "free_loss_ratio": free_loss / reference,
        "free_distance": float((taps - aim).norm() / aim.norm()),
        "first_distance": float((flat - aim).norm() / aim.norm()),
        "kernel": taps.tolist(),
        "ended": [known.status.name, fit.status.name, free_fit.status.name],
    }
    kernels = {
        "true": aim,
        "first": flat,
        f"learned at {level}/255": taps,
    }
    top = float(aim.max())
    return numbers, {name: k.view(1, 1, *k.shape[-2:]) / top for name, k in kernels.items()}


def run(job: Job) -> Results:
    """Both noise levels, one in quick runs."""
    numbers: dict[str, Any] = {}
    shown: dict[str, torch.Tensor] = {}
    levels = job.pick(full=(1, 5), quick=(5,), smoke=(5,))
    for k, level in enumerate(levels):
        part = job.part(k / len(levels), (k + 1) / len(levels))
        numbers[f"{level}/255"], kernels = at_level(part, level)
        shown |= kernels
    draw_images(shown, job.out / "kernels.png")
    return told(numbers)


def told(numbers: dict[str, Any]) -> Results:
    """Tables and sentences of what was found."""
    first = [
        [
            level,
            f"{n['width']:.4f}",
            f"{n['width_of_dense_search']:.4f}",
            f"{n['apart_percent']:.2f} %",
            f"{n['from_the_truth_percent']:.2f} %",
            f"{n['loss_ratio']:.4f}",
        ]
        for level, n in numbers.items()
    ]
    second = [
        [
            level,
            f"{n['first_distance']:.3f}",
            f"{n['free_distance']:.3f}",
            f"{n['free_loss_ratio']:.4f}",
            n["ended"][2],
        ]
        for level, n in numbers.items()
    ]
    said = [
        f"At noise {level} the learned width is {n['apart_percent']:.2f} % from that of the dense "
        f"search, and {n['from_the_truth_percent']:.2f} % larger than the true one."
        for level, n in numbers.items()
    ]
    header = ["noise", "width", "dense search", "apart", "above the truth", "loss / true kernel's"]
    return Results(
        numbers,
        [
            Table("The width of the kernel, true 1.2", header, first),
            Table(
                "A free kernel",
                ["noise", "‖k₀ - k‖/‖k‖", "‖k̂ - k‖/‖k‖", "loss / true kernel's", "ended"],
                second,
            ),
        ],
        said,
        SHORT,
        [Picture("kernels.png", "Kernels: true, at the start, and learned.")],
    )


SHORT = (
    "What minimises the loss is not the true kernel: it makes up for the bias of the regulariser.",
    "Pictures are those embedded in the package, not those of the paper.",
)

REPRODUCTION = Reproduction(
    name="semi-blind",
    title="Blur kernels learned from pairs",
    paper="After M. Hintermüller and T. Wu, Bilevel optimization for calibrating point spread "
    "functions in blind deconvolution, Inverse Problems and Imaging 9(4), 2015.",
    did=(
        "The point spread function of a total variation deblurring is the parameter of a bilevel "
        "problem: the lower level deblurs with it, the upper one compares with training data and "
        "asks the kernel to be non-negative and to sum up to one.",
    ),
    here=(
        "Four embedded pictures of 64x64 pixels, blurred with a Gaussian kernel of 7x7 pixels and "
        "width 1.2, at noise 1/255 and 5/255.",
        "Learned are the weight of a total variation and the width, or the weight and all 49 "
        "values of a kernel on the simplex. A dense search goes through the widths, with the "
        "weight minimised for each; the true kernel with its weight learned stands beside.",
    ),
    run=run,
    full="some minutes",
    timed=True,
)
