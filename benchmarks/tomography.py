"""Tomography of 362x362 pixels, 60 angles, 512 detectors: assembly, products, norm, reconstruction.

    python benchmarks/tomography.py [--threads N]

Seconds of products are medians of runs in turn with SciPy's product of the same matrix (and of its
transpose, as compressed rows of its own), so that the ratio stands for itself on a busy machine.
Line integrals are those of smooth discs known in closed form. The reconstruction is that of the
Shepp-Logan phantom with noise of 0.7 (as in the LoDoPaB comparisons) by smoothed total variation,
its weight the best of a few against the phantom, as is the width by which filtered
back-projection is smoothed.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import scipy.sparse
import torch
from common import arguments, save, table
from torch import Tensor

import bilevel as bl
from bilevel.linear import LinearMap
from bilevel.linear.bounds import power_estimate
from bilevel.model.operators import radon
from bilevel.model.operators.matrix import Matrix

SIZE, ANGLES, DETECTORS, NOISE = 362, 60, 512, 0.7
REPEATS = 15
WEIGHTS = (1.0, 2.0, 4.0, 8.0)
SMOOTHING, RIDGE, ACCURACY = 0.01, 1.0, 1e-3
FAN = {"source": 1000.0, "behind": 300.0, "spacing": 1.3}


Seconds = tuple[float, float]
"""That pass, and of the processor."""


def build(**options: Any) -> tuple[bl.operators.Radon, Seconds]:
    """As for the first time in a process, and the seconds that it takes."""
    radon._assembled.cache_clear()
    start = time.perf_counter(), time.process_time()
    operator = bl.operators.Radon((SIZE, SIZE), ANGLES, detectors=DETECTORS, **options)
    return operator, (time.perf_counter() - start[0], time.process_time() - start[1])


def in_turn(*runs: Callable[[], object]) -> list[float]:
    """Median seconds of each, run one after the other again and again."""
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(REPEATS + 1):
        for run, seconds in zip(runs, taken, strict=True):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds[1:]) for seconds in taken]


def scipy_rows(operator: Matrix) -> tuple[Any, Any]:
    """The matrix and its transpose as SciPy has them."""
    matrix, transposed = (
        scipy.sparse.csr_array(
            (m.values().numpy(), m.col_indices().numpy(), m.crow_indices().numpy()), tuple(m.shape)
        )
        for m in operator._pair()
    )
    return matrix, transposed


def products(operator: bl.operators.Radon, batch: int) -> tuple[list[float], list[float]]:
    """A and Aᵀ, ours and SciPy's, seconds."""
    with torch.no_grad():
        x = torch.rand(batch, 1, SIZE, SIZE)
        y = operator(x)
        matrix, transposed = scipy_rows(operator)
        flat, data = x.flatten(1).numpy(), y.flatten(1).numpy()
        ahead = in_turn(lambda: operator(x), lambda: [matrix @ row for row in flat])
        back = in_turn(lambda: operator.adjoint(y), lambda: [transposed @ row for row in data])
    return ahead, back


def bump(x0: float, y0: float, radius: float) -> Tensor:
    """(1 - r²/R²)² within a disc, whose line integrals are 16/15 (R² - s²)^2.5/R⁴."""
    at = torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2
    square = (at[None] - x0) ** 2 + (at[:, None] - y0) ** 2
    return (1 - square / radius**2).clamp_min(0.0).square()[None, None]


def disc_error(operator: bl.operators.Radon) -> float:
    """The largest error of line integrals of three discs, relative to the largest integral."""
    g, worst = operator.geometry, 0.0
    theta = torch.deg2rad(torch.tensor(g.degrees, dtype=torch.float64))[:, None]
    t = (torch.arange(g.count, dtype=torch.float64)[None] - (g.count - 1) / 2) * g.spacing
    along, ahead = (theta.cos(), theta.sin()), (-theta.sin(), theta.cos())
    for x0, y0, radius in ((20.0, -35.0, 90.0), (-60.0, 40.0, 50.0), (0.0, 0.0, 25.0)):
        found = operator(bump(x0, y0, radius).float())[0, 0].double()
        if g.source is None:
            off = t - (x0 * along[0] + y0 * along[1])
        else:
            start = (-g.source * ahead[0], -g.source * ahead[1])
            end = tuple(t * along[i] + g.behind * ahead[i] for i in (0, 1))
            ray = (end[0] - start[0], end[1] - start[1])
            off = ((x0 - start[0]) * ray[1] - (y0 - start[1]) * ray[0]) / torch.hypot(*ray)
        expected = 16 / 15 * (radius**2 - off**2).clamp_min(0.0) ** 2.5 / radius**4
        worst = max(worst, float((found - expected).abs().max() / expected.max()))
    return worst


def looseness(operator: bl.operators.Radon) -> float:
    """The proved bound of ‖A‖ over an estimate from below."""
    gram = LinearMap.shared(lambda x: operator.adjoint(operator(x.float())).double())
    below = power_estimate(gram, (1, SIZE, SIZE), steps=40) ** 0.5
    return operator.gram_bounds((1, SIZE, SIZE)).upper ** 0.5 / below


def in_words(seconds: Seconds) -> str:
    """Both."""
    return f"{seconds[0]:.1f}, of the processor {seconds[1]:.1f}"


def psnr(x: Tensor, truth: Tensor) -> float:
    """Of grey values in [0, 1]."""
    return -10 * math.log10(float((x - truth).square().mean()))


def reconstruction(operator: bl.operators.Radon) -> tuple[list[list[str]], dict[str, Any]]:
    """FBP, smoothed at its best, and TV with its certificate."""
    truth = bl.data.shepp_logan(SIZE)
    y = bl.data.simulate(truth, operator, bl.data.GaussianNoise(NOISE), seed=0).y
    plain = operator.filtered_back_projection(y)
    smooth = {
        s: psnr(bl.operators.GaussianBlur(s, boundary="reflecting")(plain).detach(), truth)
        for s in (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
    }
    width = max(smooth, key=smooth.__getitem__)
    found: dict[str, Any] = {"fbp": psnr(plain, truth), "fbp smoothed": smooth[width]}
    lines = [
        ["filtered back-projection", f"{found['fbp']:.2f} dB"],
        [f"the same, smoothed by its best Gaussian ({width:g})", f"{smooth[width]:.2f} dB"],
    ]
    best = (-math.inf, 0.0, None, (0.0, 0.0))
    for weight in WEIGHTS:
        tv = bl.regularisers.TotalVariation(weight, SMOOTHING)
        energy = bl.Variational(
            bl.fidelities.SquaredL2(operator), tv + bl.regularisers.Tikhonov(RIDGE)
        )
        start = time.perf_counter(), time.process_time()
        tol = bl.Tolerance(rms=ACCURACY)
        solved = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=tol, max_steps=2000)
        seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        reached = psnr(solved.x, truth)
        print(weight, reached, int(solved.steps), float(solved.certificate.rms), seconds)
        best = max(best, (reached, weight, solved, seconds), key=lambda one: one[0])
    reached, weight, solved, seconds = best
    assert solved is not None
    certified = float(solved.certificate.rms)
    found |= {"tv": reached, "weight": weight, "certified rms": certified, "seconds": seconds}
    found |= {"steps": int(solved.steps), "status": solved.status[0].name}
    lines.append([f"total variation, weight {weight:g}", f"{reached:.2f} dB"])
    lines.append(["its certificate: rms distance to the minimiser at most", f"{certified:.1e}"])
    lines.append(["its steps", f"{int(solved.steps)}"])
    lines.append(["its seconds", in_words(seconds)])
    return lines, found


def main() -> None:
    """One line a figure."""
    arguments(__doc__ or "")
    lines, numbers = [], {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BILEVEL_CACHE"] = "off"
        operator, numbers["assembly"] = build()
        os.environ["BILEVEL_CACHE"] = folder
        build()
        _, numbers["from disk"] = build()
        (file,) = Path(folder).iterdir()
        numbers["bytes"] = file.stat().st_size
    os.environ["BILEVEL_CACHE"] = "off"
    start = time.perf_counter(), time.process_time()
    operator.gram_bounds((1, SIZE, SIZE))
    numbers["bound"] = time.perf_counter() - start[0], time.process_time() - start[1]
    numbers["entries"] = int(operator._pair()[0].values().numel())
    lines.append(["entries", f"{numbers['entries'] / 1e6:.1f} million"])
    for name in ("assembly", "from disk", "bound"):
        lines.append([f"{name}, seconds", in_words(numbers[name])])
    for batch in (1, 2, 4, 8):
        found = dict(zip(("A", "Aᵀ"), products(operator, batch), strict=True))
        numbers[f"batch of {batch}"] = found
        for name, (ours, theirs) in found.items():
            words = f"{1e3 * ours:.0f} ms, {ours / theirs:.2f} times SciPy's"
            lines.append([f"{name} of {batch} image{'s' * (batch > 1)}", words])
    fan, numbers["assembly, fan"] = build(**FAN)
    lines.append(["assembly of a fan, seconds", in_words(numbers["assembly, fan"])])
    for name, one in (("parallel", operator), ("fan", fan)):
        numbers[name] = {"discs": disc_error(one), "looseness": looseness(one)}
        lines.append([f"line integrals of discs, {name}", f"{100 * numbers[name]['discs']:.2f} %"])
        lines.append([f"bound of the norm, {name}", f"{numbers[name]['looseness']:.3f} times it"])
    more, numbers["reconstruction"] = reconstruction(operator)
    save("tomography", table(["what", "found"], lines + more), numbers)


if __name__ == "__main__":
    main()
