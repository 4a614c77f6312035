"""Maps of a whole texture at few knots: from automatic maps, and learned on from there."""

from __future__ import annotations

import torch
from automatic_maps import EXPONENTS, RISK, SMOOTHING, TASKS, Restored
from torch import Tensor

import bilevel as bl
from bilevel.model import Energy
from bilevel.report.reproduction import Job
from bilevel.select import Choice, DirectionalMaps

__all__ = ["FULL", "LEARNED", "START", "TUNED", "on_held_out"]

KNOTS = (2, 2)
TASK = TASKS["denoising"]
TUNED = "TV, weight learned"
START = "DTV at 2 x 2 knots, automatic"
LEARNED = "DTV at 2 x 2 knots, learned on"
FULL = "DTV, maps of each crop by itself"


def halves(name: str, size: int, count: int) -> tuple[Tensor, Tensor]:
    """Crops of the upper half to learn from, and of the lower half."""
    whole = bl.data.embedded_image(name).double()
    middle = whole.shape[2] // 2
    upper, lower = (
        bl.data.crops([(name, part)], size, count, seed=1)[0]
        for part in (whole[:, :, :middle], whole[:, :, middle:])
    )
    return upper, lower


def gathered(maps: DirectionalMaps) -> bl.regularisers.DirectionalTV:
    """The means of automatic maps at every knot; of directions, those of (c, s)."""
    turn, half = torch.deg2rad(2 * maps.angle), maps.anisotropy.log() / 2
    mean = torch.polar(half, turn).mean()
    return bl.regularisers.DirectionalTV(
        1.0,
        SMOOTHING,
        float(maps.exponent.mean()),
        float(torch.rad2deg(mean.angle() / 2)),
        float((2 * mean.abs()).exp()),
        grid=KNOTS,
        scale=float(maps.size.log().mean().exp()),
        learn=("weight", "exponent", "direction"),
    )


def weighed(
    term: bl.regularisers.Regulariser, pairs: bl.data.Pairs, near: Tensor | None = None
) -> tuple[bl.Variational, Choice]:
    """A term of weight 1 with the mean of the weights of least predicted risk, and those."""
    energy = TASK.energy(term)
    choice = TASK.chosen(energy, pairs, RISK, near)
    with torch.no_grad():
        energy.get_parameter("regulariser.log_weight").add_(choice.weight.log().mean())
    return energy, choice


def judged(energy: Energy, pairs: bl.data.Pairs) -> list[float]:
    """ISNR of all crops [dB]."""
    tol = bl.Tolerance(residual=1e-4)
    x = bl.minimise(energy.at(pairs.y), bl.solvers.LBFGS(), tol=tol).x
    rows = zip(x, pairs.target, pairs.y, strict=True)
    return [TASK.quality(*(part[None] for part in row)).isnr for row in rows]


def on_held_out(job: Job, name: str) -> dict[str, list[float]]:
    """ISNR of the held-out crops of one texture [dB], by model."""
    size, count = job.pick(full=64, quick=32, smoke=21), job.pick(full=4, quick=2, smoke=1)
    seen, unseen = (TASK.data(x, k) for k, x in enumerate(halves(name, size, count)))
    tv = bl.regularisers.TotalVariation(1.0, SMOOTHING, learn=("weight",))
    tuned, first = weighed(tv, seen)
    maps = bl.directional_maps(first.x, exponents=EXPONENTS)
    start, _ = weighed(gathered(maps), seen, first.weight)
    found = {START: judged(start, unseen)}
    budget = bl.Budget(steps=job.pick(full=20, quick=4, smoke=1))
    for k, (model, energy) in enumerate({TUNED: tuned, LEARNED: start}.items()):
        problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), seen)
        part = job.part(k / 2, (k + 1) / 2)
        fit = part.learn(f"{name}, {model}", problem, bl.algorithms.LBFGS(), budget=budget)
        found[model] = judged(fit.energy, unseen)
    found[FULL] = [automatic(unseen, k) for k in range(count)]
    return {model: found[model] for model in (TUNED, START, LEARNED, FULL)}


def automatic(pairs: bl.data.Pairs, k: int) -> float:
    """ISNR of a crop with maps and weight of its own [dB]."""
    own = bl.data.Pairs(pairs.y[k : k + 1], pairs.target[k : k + 1], pairs.ids[k : k + 1])
    x = Restored.of(TASK, own, (RISK,)).images[f"DTV, {RISK}"]
    return TASK.quality(x, own.target, own.y).isnr
