"""Exact TV denoising to equal duality gaps: PDHG and whichever other packages are installed.

    python benchmarks/exact_tv.py [--data DIR] [--threads N]

512x512, noise 0.1, weight 0.1. Every method runs with growing effort until the relative gap of its
result, found by one independent function in float64, is at most the goal; that effort is timed.
The gap is to a lower bound of min J that a long run of PDHG in float64 proves. PDHG runs as written
first, then compiled, without the seconds that compiling takes.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from common import arguments, save, table
from torch import Tensor

import bilevel as bl
from bilevel.ground.memory import keep_freed_memory
from bilevel.ground.randomness import generator
from bilevel.model import SaddleObjective
from bilevel.solve import certify

SIZE, NOISE, WEIGHT = 512, 0.1, 0.1
GOALS = (1e-3, 1e-4, 1e-5, 1e-6)
LONGEST = 8.0  # no run longer than that is followed by another
REPEATS = 3
Run = Callable[[int], Tensor]


def main() -> None:
    """One table for isotropic, one for anisotropic total variation."""
    arguments(__doc__ or "")
    keep_freed_memory()
    os.environ["BILEVEL_COMPILE"] = "never"  # what was compiled once stays so
    picture = bl.data.phantom.shepp_logan(SIZE).reshape(1, 1, SIZE, SIZE)
    random = generator(0, "exact_tv")
    y = (picture + NOISE * torch.randn(picture.shape, generator=random)).float()
    lines, numbers, missing = [], {}, set()
    bounds = {isotropic: lower_bound(y.double(), isotropic) for isotropic in (True, False)}
    for compiled in (False, True):
        os.environ["BILEVEL_COMPILE"] = "always" if compiled else "never"
        for isotropic, best in bounds.items():
            found = pdhg(y, isotropic, "compiled" if compiled else "as written")
            for run in found.values():
                run(10)
            if compiled:
                found |= others(y, isotropic, missing)
            for name, run in found.items():
                times = efforts(run, y, isotropic, best)
                kind = "isotropic" if isotropic else "anisotropic"
                lines.append([kind, name, *("-" if t is None else f"{t:.3f}" for t in times)])
                numbers[f"{kind}, {name}"] = dict(zip(map(str, GOALS), times, strict=True))
    lines.sort(key=lambda line: line[0], reverse=True)
    header = ["total variation", "method", *(f"gap {goal:g} [s]" for goal in GOALS)]
    absent = f"\n\nNot installed, left out: {', '.join(sorted(missing))}." if missing else ""
    save("exact_tv", table(header, lines) + absent, numbers)


def value(x: Tensor, y: Tensor, isotropic: bool) -> float:
    """J(x) in float64, written out."""
    x, y = x.double(), y.double()
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    right[..., :-1] = x[..., 1:] - x[..., :-1]
    length = (down**2 + right**2).sqrt() if isotropic else down.abs() + right.abs()
    return float(0.5 * ((x - y) ** 2).sum() + WEIGHT * length.sum())


def objective(y: Tensor, isotropic: bool) -> SaddleObjective:
    """The problem as the library sees it."""
    tv = bl.regularisers.ExactTotalVariation(WEIGHT, isotropic=isotropic)
    found = bl.Variational(bl.fidelities.SquaredL2(), tv).to(y.dtype).at(y)
    assert isinstance(found, SaddleObjective)
    return found


def lower_bound(y: Tensor, isotropic: bool) -> float:
    """A lower bound of min J, within a relative 1e-8 of it."""
    problem = objective(y, isotropic)
    tol = bl.Tolerance(gap=1e-8 * value(y, y, isotropic))
    solution = bl.minimise(problem, bl.solvers.PDHG(), tol=tol, max_steps=100_000).require()
    return value(solution.x, y, isotropic) - float(solution.certificate.gap)


def efforts(run: Run, y: Tensor, isotropic: bool, best: float) -> list[float | None]:
    """Seconds of the cheapest of the efforts 10, 14, 20, 28, ... that meets each goal."""
    times: list[float | None] = []
    steps, seconds = 10, 0.0
    while len(times) < len(GOALS) and seconds <= LONGEST:
        start = time.perf_counter()
        x = run(steps)
        seconds = time.perf_counter() - start
        away = value(x, y, isotropic) / best - 1
        met = sum(away <= goal for goal in GOALS)
        if met > len(times):
            least = min([seconds, *(_timed(run, steps) for _ in range(REPEATS - 1))])
            times += [least] * (met - len(times))
        steps = round(1.4 * steps)
    return times + [None] * (len(GOALS) - len(times))


def _timed(run: Run, steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def pdhg(y: Tensor, isotropic: bool, how: str) -> dict[str, Run]:
    """Number of steps -> image, in both precisions, certificates included."""

    def method(dtype: torch.dtype) -> Run:
        data = y.to(dtype)

        def run(steps: int) -> Tensor:
            problem, solver = objective(data, isotropic), bl.solvers.PDHG()
            state = solver.init(problem, data)
            with torch.no_grad():
                for k in range(steps):
                    state = solver.step(problem, state)
                    if k % solver.check_every == solver.check_every - 1:
                        certify(problem, state.x, None, None, solver.dual(state))
            return state.x

        return run

    return {
        f"PDHG float32, {how}": method(torch.float32),
        f"PDHG float64, {how}": method(torch.float64),
    }


def others(y: Tensor, isotropic: bool, missing: set[str]) -> dict[str, Run]:
    """The same by name of package; those that are not installed go to ``missing``."""
    found: dict[str, Run] = {}
    image = y[0, 0].numpy()
    if importlib.util.find_spec("skimage") is None:
        missing.add("scikit-image")
    elif isotropic:
        chambolle = importlib.import_module("skimage.restoration").denoise_tv_chambolle

        def scikit_image(steps: int) -> Tensor:
            return _image(chambolle(image, weight=WEIGHT, eps=0.0, max_num_iter=steps))

        found["scikit-image"] = scikit_image
    if importlib.util.find_spec("prox_tv") is None:
        missing.add("ProxTV")
    elif not isotropic:
        tv1_2d = importlib.import_module("prox_tv").tv1_2d

        def prox_tv(steps: int) -> Tensor:
            return _image(tv1_2d(image.astype(np.float64), WEIGHT, max_iters=steps))

        found["ProxTV"] = prox_tv
    if importlib.util.find_spec("pyproximal") is None:
        missing.add("PyProximal")
    elif isotropic:
        operator = importlib.import_module("pyproximal").TV

        def pyproximal(steps: int) -> Tensor:
            tv = operator(dims=image.shape, sigma=WEIGHT, niter=steps, rtol=0.0)
            return _image(tv.prox(image.astype(np.float64).ravel(), 1.0).reshape(image.shape))

        found["PyProximal"] = pyproximal
    return found


def _image(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))[None, None]


if __name__ == "__main__":
    main()
