"""Speed of the pieces, against what this machine can do.

    BILEVEL_COMPILE=always python benchmarks/speed.py --data DIR

Limits: the fastest matrix product and the fastest copy that PyTorch manages here. Every time is
the median of many runs, with the fastest and the slowest tenth.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import arguments, save, table
from torch import Tensor

import bilevel as bl
from bilevel.ground.memory import keep_freed_memory
from bilevel.linear import cg
from bilevel.solve import Solver

SOLVERS: dict[str, Solver[Any]] = {
    "Nesterov": bl.solvers.Nesterov(),
    "L-BFGS": bl.solvers.LBFGS(),
}


def milliseconds(work: Callable[[], object], least: float = 2.0) -> tuple[float, float, float]:
    """Median, 10 % and 90 % of the times of ``work`` over about ``least`` seconds."""
    for _ in range(3):
        work()
    times: list[float] = []
    end = time.perf_counter() + least
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    times.sort()
    return times[len(times) // 2], times[len(times) // 10], times[-1 - len(times) // 10]


def spread(times: tuple[float, float, float]) -> str:
    return f"{times[0]:.3g} ({times[1]:.3g} to {times[2]:.3g})"


def limits() -> dict[str, float]:
    """GFLOP/s of a matrix product, GB/s of a copy that leaves the caches."""
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    big, into = torch.rand(64 * 2**20), torch.empty(64 * 2**20)
    product = milliseconds(lambda: torch.mm(a, b))[1]
    copy = milliseconds(lambda: into.copy_(big))[1]
    return {"gflops": 2 * 2048**3 / product / 1e6, "gigabytes": 2 * 4 * big.numel() / copy / 1e6}


def denoising(y: Tensor) -> bl.model.SmoothObjective:
    tv = bl.regularisers.TotalVariation(0.05, 0.01)
    return bl.Variational(bl.fidelities.SquaredL2(), tv).at(y)


def steps_of_total_variation(limit: dict[str, float]) -> list[list[str]]:
    """One step at 512x512, and the share of the copy's bandwidth that ten arrays would need."""
    lines = []
    objective = denoising(torch.rand(1, 1, 512, 512))
    floor = 10 * 4 * 512**2 / limit["gigabytes"] / 1e6
    chosen = os.environ.get("BILEVEL_COMPILE", "auto")
    for how, mode in (("as written", "never"), ("compiled", "always")):
        os.environ["BILEVEL_COMPILE"] = mode
        for name, solver in SOLVERS.items():
            with torch.no_grad():
                state = solver.init(objective, objective.start())
                for _ in range(10):
                    state = solver.step(objective, state)
                taken = milliseconds(lambda s=solver, at=state: s.step(objective, at))
            what = f"{name}, one step, TV 512x512, {how}"
            lines.append([what, spread(taken), f"{floor / taken[0]:.0%}"])
    os.environ["BILEVEL_COMPILE"] = chosen
    return lines


def ridge(folder: Path, name: str) -> bl.Variational:
    path = folder.parent / "peers" / f"{name}_bilevel_ift_denoising.safetensors"
    part = bl.regularisers.RidgeRegulariser.load(path, weakly_convex=name == "wcrr")
    return bl.Variational(bl.fidelities.SquaredL2(), part)


def cascades(folder: Path, limit: dict[str, float]) -> tuple[list[list[str]], dict[str, float]]:
    """Gradient and HVP of the learned cascade on a 481x321 image."""
    lines, ratios = [], {}
    products = 2 * 481 * 321 * 25 * (4 + 4 * 8 + 8 * 64) * 2
    for name in ("crr", "wcrr"):
        objective = ridge(folder, name).at(torch.rand(1, 1, 481, 321))
        x = objective.start()
        hessian = objective.hessian(x)
        taken = {
            "gradient": milliseconds(lambda o=objective, at=x: o.grad(at)),
            "value and gradient": milliseconds(lambda o=objective, at=x: o.value_and_grad(at)),
            "HVP": milliseconds(lambda h=hessian, at=x: h(at)),
        }
        floor = products / limit["gflops"] / 1e6
        lines += [
            [f"{name}, {what}, 481x321", spread(times), f"{floor / times[0]:.0%}"]
            for what, times in taken.items()
        ]
        ratios[name] = taken["HVP"][0] / taken["gradient"][0]
    return lines, ratios


def adjoints(folder: Path) -> list[list[str]]:
    """Products of an adjoint system at the solution, to relative residual 1e-2, whole images."""
    lines = []
    images = [x for _, x in bl.data.load_images(folder / "bsd68", grey=True)][::7]
    goals = {"crr": bl.Tolerance(rms=1e-3), "wcrr": bl.Tolerance(residual=1e-3)}
    for name, tol in goals.items():
        energy, taken = ridge(folder, name), {True: [], False: []}
        for k, target in enumerate(images):
            torch.manual_seed(7 * k)
            objective = energy.at(target + 0.1 * torch.randn(1, 1, *target.shape[2:]))
            x = bl.minimise(objective, bl.solvers.LBFGS(), tol=tol).require().x
            hessian = objective.hessian(x)
            for preconditioned, linear in ((True, hessian), (False, hessian.without_inverse())):
                found = cg(linear, x - target, rtol=1e-2)
                if not bool(found.converged.all()):
                    raise SystemExit(f"the adjoint of image {7 * k} ended early")
                taken[preconditioned].append(int(found.steps))
        for preconditioned, counts in taken.items():
            how = "preconditioned" if preconditioned else "plain"
            counts.sort()
            spread_of = f"{counts[len(counts) // 2]} products ({counts[0]} to {counts[-1]})"
            lines.append([f"{name}, adjoint to 1e-2, {how} CG, 481x321", spread_of, ""])
    return lines


def layer(folder: Path) -> list[list[str]]:
    """argmin, forward to residual 1e-3 and backward to 1e-2, 8x128x128."""
    lines = []
    for name in ("crr", "wcrr"):
        energy = ridge(folder, name)
        target = bl.data.embedded_images(size=128)
        y = target + 0.1 * torch.randn_like(target)
        both = milliseconds(lambda e=energy, y=y, t=target: forward_and_backward(e, y, t))
        lines.append([f"{name}, argmin forward and backward, 8x128x128", spread(both), ""])
    return lines


def forward_and_backward(energy: bl.Variational, y: Tensor, target: Tensor) -> None:
    tol, solver = bl.Tolerance(residual=1e-3), bl.solvers.LBFGS()
    x = bl.argmin(
        energy, y, tol=tol, solver=solver, adjoint_rtol=1e-2, hypergradient=bl.Implicit("minres")
    )
    (x - target).square().mean().backward()


def batches() -> list[list[str]]:
    """Solves of 1, 8 and 64 images of 64x64, a row's share; one hard row among easy ones."""
    lines = []
    images = bl.data.embedded_images(size=64).repeat(8, 1, 1, 1)
    y = images + 0.1 * torch.randn_like(images)
    tol = bl.Tolerance(rms=1e-3)
    for name, solver in SOLVERS.items():
        for count in (1, 8, 64):
            objective = denoising(y[:count])
            times = milliseconds(lambda o=objective, s=solver: bl.minimise(o, s, tol=tol))
            share = (times[0] / count, times[1] / count, times[2] / count)
            lines.append([f"{name}, TV 64x64, an image of a batch of {count}", spread(share), ""])
    return lines


def one_hard_row() -> tuple[list[list[str]], dict[str, float]]:
    """63 rows that start at their minimiser beside one that does not, against that one alone."""
    images = bl.data.embedded_images(size=64).repeat(8, 1, 1, 1)
    y = images + 0.1 * torch.randn_like(images)
    tv = bl.regularisers.TotalVariation(0.1, 1e-3)
    energy, tol = bl.Variational(bl.fidelities.SquaredL2(), tv), bl.Tolerance(rms=1e-3)
    lines, ratios = [], {}
    for name, solver in SOLVERS.items():
        together, alone = energy.at(y), energy.at(y[:1])
        start = bl.minimise(together, solver, tol=bl.Tolerance(rms=5e-4)).x
        start[0] = 0.0
        many = milliseconds(lambda: bl.minimise(together, solver, start, tol=tol), 4.0)  # noqa: B023
        single = milliseconds(lambda: bl.minimise(alone, solver, start[:1], tol=tol), 4.0)  # noqa: B023
        ratios[name] = many[0] / single[0]
        lines.append([f"{name}, one hard row alone", spread(single), ""])
        lines.append([f"{name}, among 63 easy ones: {ratios[name]:.2f} times", spread(many), ""])
    return lines, ratios


def main() -> None:
    """Everything in one run."""
    chosen = arguments(__doc__ or "")
    folder = bl.data.find_data(chosen.data)
    keep_freed_memory()
    limit = limits()
    lines = steps_of_total_variation(limit)
    numbers: dict[str, Any] = {"limits": limit}
    if folder is not None:
        more, numbers["hvp_over_gradient"] = cascades(folder, limit)
        lines += more + adjoints(folder) + layer(folder)
    lines += batches()
    more, numbers["hard_row_over_alone"] = one_hard_row()
    lines += more
    peak = f"Limits here: {limit['gflops']:.0f} GFLOP/s, {limit['gigabytes']:.0f} GB/s."
    header = ["work", "ms: median (10 % to 90 %)", "of the limit"]
    numbers["lines"] = lines
    save("speed", f"{peak}\n\n{table(header, lines)}", numbers)


if __name__ == "__main__":
    main()
