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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import bilevel as bl
from bilevel.learn import Algorithm
from bilevel.learn.pretraining import Method
from bilevel.report import psnr, ssim
from bilevel.report.reproduction import Job, Picture, Results, Table
from drawing import draw_filters, draw_images

__all__ = [
    "LOSS",
    "NEEDS",
    "SIGMA",
    "Model",
    "Pictures",
    "Score",
    "Stage",
    "compared",
    "judged",
    "pictures",
]

SIGMA = 25 / 255
LOSS = bl.losses.PSNR(peak=1.0)
"""What is judged is learned unless a paper says otherwise: a mean of decibels, not of squares."""
SOLVER = bl.solvers.LBFGS(memory=12)
"""Of learning and judging; 12 pairs, as J is nearly flat along parts of wider states."""
NEEDS = ("bsds500", "bsd68")
VALIDATION = 40
WHOLE = 20
"""How many pictures are learned from where they are whole."""
HELD_OUT = (2, 5)
"""Of the embedded pictures."""
Named = Sequence[tuple[str, Tensor]]
Kind = Literal["crops", "fresh", "whole"]
"""Fixed crops, an endless stream of them, and whole pictures of one format."""


@dataclass(frozen=True)
class Pictures:
    """What there is to learn from, and whole pictures with their names."""

    samples: Mapping[Kind, bl.data.Samples]
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
        return Pictures(_samples(known, size, count), held, lambda: held)
    paths = sorted((job.data / "bsds500").glob("*/*.png"), key=str)
    read = _read(paths)
    known, held = read[:-VALIDATION], read[-VALIDATION:]
    middle = [(name, bl.data.centre_crop(x, 160)) for name, x in held]
    folder = job.data / "bsd68"
    samples = _samples(known, size, count)
    return Pictures(samples, middle, lambda: _read(sorted(folder.glob("*.png"))))


def shipped(job: Job) -> tuple[str, Tensor]:
    """The picture that pages show, one of those that may be passed on."""
    side = job.pick(full=256, quick=128, smoke=24)
    return bl.data.embedded_names()[HELD_OUT[0]], bl.data.embedded_images(side)[HELD_OUT[0]][None]


def _read(paths: Sequence[Path]) -> list[tuple[str, Tensor]]:
    return [
        (f"{path.parent.name}/{path.stem}", bl.data.load_image(path, grey=True)) for path in paths
    ]


def _samples(named: Named, size: int, count: int) -> dict[Kind, bl.data.Samples]:
    """Crops of ``size``, as many as asked for; and every so many of the whole pictures."""
    noise, identity = bl.data.GaussianNoise(SIGMA), bl.operators.Identity()

    def cut(count: int) -> bl.data.Simulated:
        return bl.data.Simulated(list(named), identity, noise, size=size, count=count)

    format_ = named[0][1].shape
    alike = [pair for pair in named if pair[1].shape == format_]
    return {
        "crops": cut(count),
        "fresh": cut(10**6),
        "whole": noisy(alike[:: -(-len(alike) // WHOLE)]),
    }


@dataclass(frozen=True)
class Score:
    """Of denoised pictures: PSNR [dB] without clipping, SSIM, gradients a picture, and seconds."""

    names: Sequence[str]
    psnr: Sequence[float]
    ssim: Sequence[float]
    passes: float
    seconds: float
    missed: int
    """Pictures that were not solved to the accuracy asked for."""

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


def judged(
    job: Job, what: str, fit: bl.Fit, named: Named, *, chunk: int = 4
) -> tuple[Score, list[Tensor]]:
    """Scores of all pictures, and the reconstructions in the order of the names."""
    samples, start = noisy(named), time.perf_counter()
    found: dict[int, Tensor] = {}
    passes = missed = 0
    index = torch.arange(len(samples))
    for place in samples.places(index, chunk):
        job.progress(len(found) / len(samples), f"{what}, {len(found)} of {len(samples)}")
        batch = samples.checked(index[place])
        objective = fit.energy.at(batch.y)
        tol = fit.tolerance(objective, batch.y)
        solution = bl.minimise(objective, SOLVER, tol=tol, max_steps=2000)
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
class Stage:
    """A share of the time of a model, and what is done in it.

    Attributes:
        name: for the reader.
        share: of the time of the model.
        method: of learning or pretraining; what fits the problem if None.
        on: which samples.
        quick: steps of a quick run; a smoke run has one.
    """

    name: str = "crops"
    share: float = 1.0
    method: Algorithm[Any] | Method | None = None
    on: Kind = "crops"
    quick: int = 8


@dataclass(frozen=True)
class Model:
    """A regulariser and how it is learned.

    Attributes:
        make: a new energy.
        share: of the time of learning of all models.
        stages: one after the other, each from where the last one ended.
    """

    make: Callable[[], bl.Variational]
    share: float = 1.0
    stages: Sequence[Stage] = (Stage(),)


@dataclass(frozen=True)
class Learned:
    """The fit that validates best, of the ends of the stages, and what all of them cost."""

    fit: bl.Fit
    validation: float
    seconds: float
    gradients: int


def learned(
    job: Job, name: str, model: Model, data: Pictures, seconds: float, loss: bl.losses.Loss
) -> Learned:
    """Stage by stage; validation pictures choose between their ends."""
    energy, theta = model.make(), None
    best: Learned | None = None
    begin = spent = 0.0
    gradients = 0
    shares = sum(stage.share for stage in model.stages)
    for stage in model.stages:
        samples = data.samples[stage.on]
        store = bl.data.Nowhere() if stage.on == "fresh" else None
        problem = bl.BilevelProblem(
            energy, loss, samples, solver=SOLVER, store=store, max_steps=2000
        )
        share = stage.share / shares
        steps = job.pick(full=math.inf, quick=stage.quick, smoke=1)
        budget = bl.Budget(seconds=seconds * share, steps=steps)
        part, what = job.part(begin, begin + share), f"{name} {stage.name}"
        begin += share
        fit = part.learn(what, problem, stage.method, theta, budget=budget, keep=True)
        theta = fit.theta
        spent += fit.cost.seconds
        gradients += fit.cost.gradient_evaluations + fit.cost.hvps
        score, _ = judged(part.part(1, 1), f"{what}: validation", fit, data.validation)
        if best is None or score.mean > best.validation:
            best = Learned(fit, score.mean, spent, gradients)
    assert best is not None, "a model has stages"
    return replace(best, seconds=spent, gradients=gradients)


HEADER = (
    "model", "parameters", "learning [s]", "gradients and products in learning",
    "validation [dB]", "test [dB]", "SSIM", "gradients and products an image", "not converged",
)  # fmt: skip


def compared(
    job: Job,
    models: Mapping[str, Model],
    *,
    minutes: float,
    size: int = 128,
    count: int = 50,
    loss: bl.losses.Loss = LOSS,
) -> tuple[Results, dict[str, bl.Fit]]:
    """Learn all models, judge them on the test pictures once, and draw one of these.

    Args:
        job: what to do, and how large.
        models: by name.
        minutes: of learning in a full run, in all.
        size: side of the crops of a full run [pixel].
        count: how many crops a full run has.
        loss: of learning.
    """
    data = pictures(job, size=size, count=count)
    seconds = job.seconds(full=60 * minutes, quick=45.0)
    shares, begin = sum(model.share for model in models.values()), 0.0
    found: dict[str, Learned] = {}
    for name, model in models.items():
        end = min(begin + 0.9 * model.share / shares, 0.9)
        share = seconds * model.share / shares
        found[name] = learned(job.part(begin, end), name, model, data, share, loss)
        begin = end
    test = data.test()
    picture = shipped(job)
    y = next(iter(noisy([picture]).batches(torch.tensor([0]), 1))).y
    shown: dict[str, Tensor] = {"truth": picture[1], "noisy": y}
    numbers: dict[str, Any] = {}
    rows: list[list[str]] = []
    for k, (name, one) in enumerate(found.items()):
        part = job.part(0.9 + 0.1 * k / len(found), 0.9 + 0.1 * (k + 1) / len(found))
        score, _ = judged(part, f"{name}: test pictures", one.fit, test)
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
        shown[name] = judged(part.part(1, 1), f"{name}: {picture[0]}", one.fit, [picture])[1][0]
    job.progress(1.0, "pictures")
    draw_images(shown, job.out / "images.png")
    what = f"{len(test)} test pictures, noise of 25/255, PSNR without clipping"
    caption = f"{picture[0]}: truth, noisy, and what each model makes of it."
    results = Results(
        numbers, [Table(what, HEADER, rows)], pictures=[Picture("images.png", caption)]
    )
    return results, {name: one.fit for name, one in found.items()}


def with_filters(results: Results, fit: bl.Fit, out: Path, what: str) -> Results:
    """With a picture of the filters of a fit, largest weight first."""
    experts = fit.energy.regulariser
    if isinstance(experts, bl.regularisers.Rescaled):
        experts = experts.regulariser
    draw_filters(experts.filters.detach(), experts.weight.detach().flatten(), out / "filters.png")
    caption = f"Filters of {what}, the largest weight first, each on a grey scale of its own."
    more = [*results.pictures, Picture("filters.png", caption)]
    return replace(results, pictures=more)


def with_weights(results: Results, fit: bl.Fit, out: Path) -> Results:
    """With a picture of weights on a grid, spread over a square."""
    spread = fit.energy.regulariser.weights((1, 160, 160)).detach()
    least, most = float(spread.min()), float(spread.max())
    draw_images({"weights": spread.reshape(1, 1, 160, 160)}, out / "map.png", window=(least, most))
    caption = f"Learned weights over a picture, from {least:.3f} (black) to {most:.3f} (white)."
    more = [*results.pictures, Picture("map.png", caption)]
    return replace(results, pictures=more)
