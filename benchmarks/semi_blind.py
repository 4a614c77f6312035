"""Blurs learned from four pairs: how near the loss's minimiser, and how near the truth.

    python benchmarks/semi_blind.py

Four pictures of 64x64 are blurred with a Gaussian kernel of 7x7 pixels and width 1.2, at noise
1/255 and 5/255. Learned are the weight of a total variation and the width, or the weight and all 49
numbers of a kernel on the simplex. The dense search goes through the widths around the learned one
in steps of 4 %, then of half a per cent, the weight minimised for each, and fits a parabola to
these. The true kernel, with its weight learned, stands beside: the minimiser of the loss is not
the true kernel, as it makes up for the bias of the regulariser.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from common import arguments, save, table
from scipy.optimize import minimize_scalar

import bilevel as bl

SIDE, WIDTH, SIZE, COUNT = 7, 1.2, 64, 4
WEIGHT, SIGMA = "regulariser.terms.0.log_weight", "fidelity.operator.sigma"
BUDGET = bl.Budget(steps=200, seconds=300)


def problem(operator: bl.operators.Operator, noise: float) -> bl.BilevelProblem:
    """With a total variation whose weight is learned, in float64."""
    images = bl.data.embedded_images(size=SIZE)[:COUNT].double()
    true = bl.operators.GaussianBlur(WIDTH, SIDE, "reflecting").double()
    pairs = bl.data.simulate(images, true, bl.data.GaussianNoise(noise), seed=0)
    tv = bl.regularisers.TotalVariation(1e-3, 0.01, learn=("weight",))
    ridge = bl.regularisers.Tikhonov(1e-4, learn=())
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), tv + ridge).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def learned(p: bl.BilevelProblem) -> tuple[bl.Fit, float]:
    """A fit, and its loss."""
    fit = bl.learn(p, budget=BUDGET)
    return fit, p.value(fit.theta, tol=1e-6)


def profile(p: bl.BilevelProblem, fit: bl.Fit) -> tuple[float, float]:
    """The width of least loss and that loss, the weight minimised at every width."""
    centre, log_weight = float(fit.theta[SIGMA]), float(fit.theta[WEIGHT])

    def least(width: float) -> float:
        def value(w: float) -> float:
            theta = {SIGMA: torch.tensor(width).double(), WEIGHT: torch.tensor(w).double()}
            return p.value(theta, tol=1e-6)

        span = (log_weight - 0.5, log_weight + 0.5)
        return float(
            minimize_scalar(value, bounds=span, method="bounded", options={"xatol": 1e-2}).fun
        )

    wide = centre * (1 + 0.04 * np.arange(-2, 3))
    middle = float(wide[int(np.argmin([least(w) for w in wide]))])
    fine = middle * (1 + 0.005 * np.arange(-4, 5))
    losses = np.array([least(w) for w in fine])
    a, b, _ = np.polyfit(fine - middle, losses, 2)
    return middle - b / (2 * a), float(losses.min())


def main() -> None:
    """One line a noise level for the width, one for the kernel."""
    arguments(__doc__ or "")
    true = bl.operators.GaussianBlur(WIDTH, SIDE, "reflecting").double()
    widths, kernels = [], []
    numbers: dict[str, Any] = {}
    for level in (1, 5):
        noise = level / 255
        known, reference = learned(problem(true, noise))
        p = problem(bl.operators.GaussianBlur(2.0, SIDE, "reflecting", learn=("sigma",)), noise)
        fit, loss = learned(p)
        width = float(fit.theta[SIGMA])
        best, least = profile(p, fit)
        off = abs(width / best - 1)
        shown = [f"{level}/255", f"{width:.4f}", f"{best:.4f}", f"{100 * off:.2f} %"]
        widths.append([*shown, f"{100 * (width / WIDTH - 1):+.1f} %", f"{loss / reference:.4f}"])
        flat = bl.operators.GaussianBlur(2.0, SIDE).taps().detach()
        free = bl.operators.Convolution(flat, "reflecting", learn=("kernel",), simplex=True)
        q = problem(free, noise)
        free_fit, free_loss = learned(q)
        taps, aim = free_fit.theta["fidelity.operator.kernel"], true.taps().detach()
        distance = float((taps - aim).norm() / aim.norm())
        begun = float((flat - aim).norm() / aim.norm())
        values = [f"{begun:.3f}", f"{distance:.3f}", f"{free_loss / reference:.4f}"]
        kernels.append([f"{level}/255", *values, free_fit.status.name])
        numbers[f"{level}/255"] = {
            "width": width,
            "width_of_dense_search": best,
            "relative": off,
            "loss": loss,
            "loss_of_dense_search": least,
            "loss_of_true_kernel": reference,
            "distance_of_width": width / WIDTH - 1,
            "loss_of_free_kernel": free_loss,
            "distance_of_free_kernel": distance,
            "kernel": taps.tolist(),
            "status": [known.status.name, fit.status.name, free_fit.status.name],
        }
        print(widths[-1], kernels[-1], flush=True)
    first = ["noise", "width", "dense search", "apart", "from the truth", "loss / true kernel's"]
    second = ["noise", "‖k₀ - k‖/‖k‖", "‖k̂ - k‖/‖k‖", "loss / true kernel's", "ended"]
    text = f"{table(first, widths)}\n\nA free kernel:\n\n{table(second, kernels)}"
    save("semi_blind", text, numbers)


if __name__ == "__main__":
    main()
