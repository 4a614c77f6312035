"""What every hypergradient method costs for the accuracy that it gives, on one problem.

    python benchmarks/hypergradients.py

Charbonnier-TV deblurring of four embedded pictures of 48x48 in float64, derivatives by the weight
and the smoothing of TV. All methods start from the same solution by L-BFGS, certified to rms 1e-7,
whose cost is not counted. The truth is the implicit hypergradient at a solution to rms 1e-11 with
an adjoint residual of 1e-12. Costs are per picture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import RESULTS, arguments, save, table

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    ForwardMode,
    Hypergradient,
    Implicit,
    JacobianFree,
    Neumann,
    Shine,
    Unrolled,
    ValueFunction,
)
from bilevel.ground import theta as algebra
from bilevel.solve.solvers import LBFGS, Nesterov

PICTURES, SIZE, RMS = 4, 48, 1e-7
RTOLS = [10.0**-k for k in range(1, 8)]
STEPS = [1, 3, 10, 30, 100, 300, 1000]
PULLS = [3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6]
Setting = tuple[str, Hypergradient, float | None]


def methods() -> dict[str, list[Setting]]:
    """For each method its settings from cheap to accurate: words, method, rtol."""
    solver = LBFGS()
    return {
        "implicit, CG": [(f"rtol {r:.0e}", Implicit(), r) for r in RTOLS],
        "SHINE + CG": [(f"{k} steps", Shine(k), 1e-9) for k in (0, 1, 3, 10, 20, 40, 80)],
        "Neumann": [(f"{k} terms", Neumann(k), 0.0) for k in STEPS],
        "one step": [("", JacobianFree(), 0.0)],
        "equilibrium propagation": [
            (f"pull {s:.0e}", EquilibriumPropagation(s, solver), min(0.1, 3 * s)) for s in PULLS
        ],
        "value function": [
            (f"pull {s:.0e}", ValueFunction(1 / s, solver), min(0.1, 3 * s)) for s in PULLS
        ],
        "unrolled, gradient descent": [(f"{k} steps", Unrolled(k), None) for k in STEPS],
        "unrolled, Nesterov": [(f"{k} steps", Unrolled(k, Nesterov()), None) for k in STEPS[:-1]],
        "forward mode, Nesterov": [
            (f"{k} steps", ForwardMode(k, Nesterov()), None) for k in STEPS[:-1]
        ],
    }


def problem() -> tuple[bl.Energy, torch.Tensor, bl.Upper]:
    """Data and targets."""
    images = bl.data.embedded_images(size=SIZE).double()[:PICTURES]
    blur = bl.operators.Convolution(torch.ones(3, 3) / 9).double()
    pairs = bl.data.simulate(images, blur, bl.data.GaussianNoise(0.03), seed=0)
    tv = bl.regularisers.TotalVariation(0.01, 0.05, learn=("weight", "smoothing"))
    ridge = bl.regularisers.Tikhonov(0.05, learn=())
    energy = bl.Variational(bl.fidelities.SquaredL2(blur), tv + ridge).double()
    return energy, pairs.y, bl.Upper(bl.losses.SquaredError(), pairs.target)


def measure() -> Iterator[dict[str, object]]:
    """One record a method and setting."""
    energy, y, upper = problem()
    lower = energy.at(y)
    tight = bl.minimise(lower, LBFGS(), tol=bl.Tolerance(rms=1e-11))
    truth = Implicit()(lower, upper, tight, rtol=1e-12).grad
    size = algebra.norm(truth)
    solution = bl.minimise(lower, LBFGS(), tol=bl.Tolerance(rms=RMS), keep_state=True)
    ForwardMode(1)(lower, upper, solution)  # torch loads what forward mode needs
    for name, settings in methods().items():
        for words, method, rtol in settings:
            lower = energy.at(y)
            start = perf_counter()
            found = method(lower, upper, solution, rtol=rtol)
            yield {
                "method": name,
                "setting": words,
                "gradients": lower.cost.gradient_evaluations / PICTURES,
                "hvps": lower.cost.hvps / PICTURES,
                "error": algebra.norm(algebra.add(found.grad, truth, -1.0)) / size,
                "bound": found.bound / size,
                "milliseconds": 1e3 * (perf_counter() - start),
            }


def draw(records: list[dict[str, object]], path: Path) -> None:
    """Error, and proved bound where there is one, against cost."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained", sharey=True)
    markers = "osD*^v<>P"
    for (name, settings), marker in zip(methods().items(), markers, strict=True):
        rows = [r for r in records if r["method"] == name]
        cost = [r["gradients"] + r["hvps"] for r in rows]  # type: ignore[operator]
        style = {"marker": marker, "label": name, "lw": 1.4, "ms": 9 if len(settings) == 1 else 4.5}
        for panel, what in zip(panels, ("error", "bound"), strict=True):
            values = [r[what] for r in rows]
            panel.plot(cost, values, **style)
    titles = ("true relative error", "proved bound (relative)")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(xscale="log", yscale="log", title=title)
        panel.set_xlabel("gradient evaluations + HVPs per picture")
        panel.grid(alpha=0.25)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=140)


def main() -> None:
    """Measure, save the table and the figure."""
    arguments(__doc__ or "")
    records = list(measure())
    header = ["method", "setting", "gradients", "HVPs", "relative error", "proved bound", "ms"]
    lines = [
        [
            str(r["method"]),
            str(r["setting"]),
            f"{r['gradients']:.0f}",
            f"{r['hvps']:.0f}",
            f"{r['error']:.1e}",
            f"{r['bound']:.1e}",
            f"{r['milliseconds']:.0f}",
        ]
        for r in records
    ]
    draw(records, RESULTS / "hypergradients.png")
    save("hypergradients", table(header, lines), {"records": records})


if __name__ == "__main__":
    main()
