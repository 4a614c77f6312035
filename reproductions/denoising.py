"""Denoising at σ = 25/255: pictures, learning within a budget, and a table of models.

Models are learned on crops of BSDS500 (train and test folders, sorted by path), of which the last
40 pictures are kept apart for validation; the 68 pictures of BSD68 are looked at once, when all
learning has ended. Quick runs have the embedded pictures instead: six to learn from, and two to
validate on and to judge.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bilevel as bl
from bilevel.learn import Algorithm
from bilevel.report import psnr, ssim
from bilevel.report.reproduction import Job, Picture, Results, Table
from bilevel.solve.solvers import frugal
from drawing import draw_filters, draw_images

__all__ = ["NEEDS", "SIGMA", "Model", "Pictures", "Score", "compared", "judged", "pictures"]

SIGMA = 25 / 255
NEEDS = ("bsds500", "bsd68")
VALIDATION = 40
HELD_OUT = (2, 5)
"""Of the embedded pictures."""
Named = Sequence[tuple[str, Tensor]]


@dataclass(frozen=True)
class Pictures:
    """Crops to learn from, an endless stream of them, and whole pictures with their names."""

    crops: bl.data.Samples
    stream: bl.data.Samples
    validation: Named
    test: Callable[[], Named]
    """Read when all learning has ended."""


def pictures(job: Job, *, size: int, count: int) -> Pictures:
    """For the scale of the job; ``size`` and ``count`` of the crops of a full run."""
    size, count = job.pick(full=size, quick=32, smoke=16), job.pick(full=count, quick=24, smoke=2)
    if job.data is None:
        side = job.pick(full=128, quick=128, smoke=24)
        whole = list(zip(bl.data.embedded_names(), bl.data.embedded_images(side), strict=True))
        named = [(name, x[None]) for name, x in whole]
        held = [named[k] for k in HELD_OUT[: job.pick(full=2, quick=2, smoke=1)]]
        known = [pair for k, pair in enumerate(named) if k not in HELD_OUT]
        return Pictures(_cut(known, size, count), _cut(known, size, 10**6), held, lambda: held)
    paths = sorted((job.data / "bsds500").glob("*/*.png"), key=str)
    read = _read(paths)
    known, held = read[:-VALIDATION], read[-VALIDATION:]
    middle = [(name, bl.data.centre_crop(x, 160)) for name, x in held]
    folder = job.data / "bsd68"
    return Pictures(
        _cut(known, size, count),
        _cut(known, size, 10**6),
        middle,
        lambda: _read(sorted(folder.glob("*.png"))),
    )


def _read(paths: Sequence[Path]) -> list[tuple[str, Tensor]]:
    return [
        (f"{path.parent.name}/{path.stem}", bl.data.load_image(path, grey=True)) for path in paths
    ]


def _cut(named: Named, size: int, count: int) -> bl.data.Simulated:
    noise = bl.data.GaussianNoise(SIGMA)
    identity = bl.operators.Identity()
    return bl.data.Simulated(list(named), identity, noise, size=size, count=count)


@dataclass(frozen=True)
class Score:
    """Of denoised pictures: PSNR [dB] without clipping, SSIM, gradients a picture, and seconds."""

    names: Sequence[str]
    psnr: Sequence[float]
    ssim: Sequence[float]
    passes: float
    seconds: float
    missed: int
    """Pictures that did not reach a thousandth of their contrast."""

    @property
    def mean(self) -> float:
        """PSNR."""
        return sum(self.psnr) / len(self.psnr)

    @property
    def similarity(self) -> float:
        """SSIM."""
        return sum(self.ssim) / len(self.ssim)


def noisy(named: Named) -> bl.data.Simulated:
    """Whole pictures with the noise of their names."""
    noise = bl.data.GaussianNoise(SIGMA)
    return bl.data.Simulated(list(named), bl.operators.Identity(), noise)


def judged(fit: bl.Fit, named: Named, *, chunk: int = 4) -> tuple[Score, list[Tensor]]:
    """Scores of all pictures, and the reconstructions in the order of the names."""
    samples, start = noisy(named), time.perf_counter()
    found: dict[int, Tensor] = {}
    passes = missed = 0
    index = torch.arange(len(samples))
    for place in samples.places(index, chunk):
        batch = samples.checked(index[place])
        objective = fit.energy.at(batch.y)
        tol = fit.tolerance(objective, batch.y)
        solution = bl.minimise(objective, frugal(objective), tol=tol, max_steps=2000)
        passes += objective.cost.gradient_evaluations + objective.cost.hvps
        missed += int((~solution.converged).sum())
        images = fit.energy.image(solution.x)
        found.update({int(k): images[row : row + 1] for row, k in enumerate(place)})
    seconds = time.perf_counter() - start
    images = [found[k] for k in range(len(samples))]
    pairs = [(x, target) for x, (_, target) in zip(images, named, strict=True)]
    score = Score(
        [name for name, _ in named],
        [float(psnr(x, target, 1.0)) for x, target in pairs],
        [float(ssim(x, target, 1.0)) for x, target in pairs],
        passes / len(samples),
        seconds,
        missed,
    )
    return score, images


@dataclass(frozen=True)
class Model:
    """A regulariser and how it is learned.

    Attributes:
        make: a new energy.
        share: of the time of learning of all models.
        first: an algorithm on mini-batches of the stream for the first ``warm`` of that time.
        then: one on the fixed crops for the rest; what fits if None.
    """

    make: Callable[[], bl.Variational]
    share: float = 1.0
    first: Algorithm[Any] | None = None
    warm: float = 0.25
    then: Algorithm[Any] | None = None
    steps: Mapping[str, int] = field(default_factory=lambda: {"quick": 8, "smoke": 1})
    """Of the fixed crops, where the scale limits them."""


@dataclass(frozen=True)
class Learned:
    """The fit that validates best, of the stages there were, and what all of them cost."""

    fit: bl.Fit
    validation: float
    seconds: float
    gradients: int


def learned(job: Job, name: str, model: Model, data: Pictures, seconds: float) -> Learned:
    """Stage by stage; validation pictures choose between their ends."""
    energy = model.make()
    stages: list[tuple[str, bl.data.Samples, Algorithm[Any] | None, float, float]] = []
    most = model.steps.get(job.scale, math.inf)
    if model.first is not None:
        short = seconds * model.warm
        stages.append((f"{name} batches", data.stream, model.first, short, 4 * most))
    rest = seconds - sum(stage[3] for stage in stages)
    stages.append((f"{name} crops", data.crops, model.then, rest, most))
    theta: bl.Theta | None = None
    found: list[Learned] = []
    begin = 0.0
    for what, samples, algorithm, time_left, steps in stages:
        store = bl.data.Nowhere() if samples is data.stream else None
        problem = bl.BilevelProblem(
            energy, bl.losses.SquaredError(), samples, store=store, max_steps=2000
        )
        part = job.part(begin, begin + time_left / seconds)
        begin += time_left / seconds
        budget = bl.Budget(seconds=time_left, steps=steps)
        fit = part.learn(what, problem, algorithm, theta, budget=budget, keep=True)
        theta, cost = fit.theta, fit.cost.gradient_evaluations + fit.cost.hvps
        score, _ = judged(fit, data.validation)
        spent = fit.cost.seconds + (found[-1].seconds if found else 0.0)
        total = cost + (found[-1].gradients if found else 0)
        found.append(Learned(fit, score.mean, spent, total))
    best = max(found, key=lambda one: one.validation)
    last = found[-1]
    return Learned(best.fit, best.validation, last.seconds, last.gradients)


HEADER = (
    "model", "parameters", "learning [s]", "gradients and products in learning",
    "validation [dB]", "test [dB]", "SSIM", "gradients and products an image", "not converged",
)  # fmt: skip


def compared(
    job: Job, models: Mapping[str, Model], *, minutes: float, size: int = 64, count: int = 200
) -> tuple[Results, dict[str, bl.Fit]]:
    """Learn all models, judge them on the test pictures once, and draw one of these.

    Args:
        job: what to do, and how large.
        models: by name.
        minutes: of learning in a full run, in all.
        size: side of the crops of a full run [pixel].
        count: how many crops a full run has.
    """
    data = pictures(job, size=size, count=count)
    seconds = job.seconds(full=60 * minutes, quick=45.0)
    shares, begin = sum(model.share for model in models.values()), 0.0
    found: dict[str, Learned] = {}
    for name, model in models.items():
        end = begin + 0.9 * model.share / shares
        share = seconds * model.share / shares
        found[name] = learned(job.part(begin, end), name, model, data, share)
        begin = end
    test = data.test()
    y = next(iter(noisy(test[:1]).batches(torch.tensor([0]), 1))).y
    shown: dict[str, Tensor] = {"truth": test[0][1], "noisy": y}
    numbers: dict[str, Any] = {}
    rows: list[list[str]] = []
    for k, (name, one) in enumerate(found.items()):
        job.progress(0.9 + 0.1 * k / len(found), f"{name}: test pictures")
        score, images = judged(one.fit, test)
        parameters = sum(value.numel() for value in one.fit.theta.values())
        numbers[name] = {
            "parameters": parameters,
            "learning_seconds": one.seconds,
            "learning_passes": one.gradients,
            "validation_psnr": one.validation,
            "test": {"names": score.names, "psnr": score.psnr, "ssim": score.ssim},
            "test_psnr": score.mean,
            "test_ssim": score.similarity,
            "test_passes": score.passes,
            "test_seconds": score.seconds,
            "not_converged": score.missed,
            "ended": one.fit.status.name,
            "algorithm": one.fit.algorithm,
        }
        rows.append(
            [
                name,
                str(parameters),
                f"{one.seconds:.0f}",
                str(one.gradients),
                f"{one.validation:.2f}",
                f"{score.mean:.2f}",
                f"{score.similarity:.3f}",
                f"{score.passes:.0f}",
                f"{score.missed} of {len(test)}",
            ]
        )
        shown[name] = images[0]
    job.progress(1.0, "pictures")
    draw_images(shown, job.out / "images.png")
    what = f"{len(test)} test pictures, noise of 25/255, PSNR without clipping"
    caption = f"{test[0][0]}: truth, noisy, and what each model makes of it."
    results = Results(
        numbers, [Table(what, HEADER, rows)], pictures=[Picture("images.png", caption)]
    )
    return results, {name: one.fit for name, one in found.items()}


def with_filters(results: Results, fit: bl.Fit, out: Path, what: str) -> Results:
    """With a picture of the filters of a fit, largest weight first."""
    experts = fit.energy.regulariser
    draw_filters(experts.filters.detach(), experts.weight.detach().flatten(), out / "filters.png")
    caption = f"Filters of {what}, the largest weight first, each on a grey scale of its own."
    more = [*results.pictures, Picture("filters.png", caption)]
    return Results(results.numbers, results.tables, results.findings, results.short, more)
