"""Sherry et al. 2020: which lines of k-space to measure, learned with the weight."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.report.reproduction import Job, Known, Picture, Reproduction, Results, Table
from drawing import draw_images
from magnetic import complex_image, complex_psnr

NOISE, COILS, ACCELERATION, CENTRE, WEIGHT = 0.01, 4, 4, 0.08, 0.002


def slices(job: Job) -> tuple[Tensor, Tensor]:
    """Of one person, and of another, of one size; embedded pictures in quick runs."""
    if job.data is None:
        size, count = job.pick(full=64, quick=32, smoke=16), job.pick(full=4, quick=2, smoke=1)
        images = bl.data.embedded_images(size)
        named = list(zip(bl.data.embedded_names(), images, strict=True))
        made = [complex_image(x[None], name) for name, x in named]
        return torch.cat(made[:count]), torch.cat(made[count : 2 * count])
    parts: list[Tensor] = []
    for person in ("s1", "s2"):
        paths = sorted((job.data / "mri_brain").glob(f"{person}_t1_*.png"))[::3]
        loaded = [(p.name, bl.data.load_image(p, grey=True)) for p in paths]
        parts.append(torch.cat([complex_image(x, name) for name, x in loaded]))
    room = parts[1].shape[3] - parts[0].shape[3]
    first = torch.nn.functional.pad(parts[0], (room // 2, room - room // 2))
    halve = bl.operators.Downsampling(2)
    return halve(first), halve(parts[1])


def measured(x: Tensor) -> tuple[bl.operators.MultiCoil, bl.data.Pairs]:
    """All of k-space, by several coils."""
    size = (x.shape[2], x.shape[3])
    operator = bl.operators.MultiCoil(torch.ones(size), bl.data.birdcage(size, COILS))
    return operator, bl.data.simulate(x, operator, bl.data.GaussianNoise(NOISE), seed=0)


def energy(fidelity: bl.fidelities.SampledL2) -> bl.Variational:
    """With a total variation whose weight is learned."""
    tv = bl.regularisers.TotalVariation(WEIGHT, 0.01, coupled=True, learn=("weight",))
    return bl.Variational(fidelity, tv)


def refitted(
    job: Job, what: str, term: bl.fidelities.SampledL2, pairs: bl.data.Pairs, steps: int
) -> bl.Fit:
    """What the energy leaves to learn, in so many outer steps at most."""
    problem = bl.BilevelProblem(energy(term), bl.losses.SquaredError(), pairs)
    return job.learn(what, problem, budget=bl.Budget(steps=steps))


def run(job: Job) -> Results:
    """One mask learned and made binary, others drawn; the weight learned anew for each."""
    first, second = slices(job)
    (operator, pairs), (other, unseen) = measured(first), measured(second)
    width = first.shape[3]
    frequency = 2 * torch.fft.fftfreq(width).abs()
    kept = torch.zeros(width, dtype=torch.bool)
    kept[frequency.argsort(stable=True)[: max(1, round(width * CENTRE))]] = True
    budget, profile = width // ACCELERATION, ((1 - frequency) ** 3)[None]
    free = bl.fidelities.SampledL2(operator, profile, kept[None], budget)
    steps = job.pick(full=20, quick=8, smoke=1)
    refit = job.pick(full=8, quick=4, smoke=1)
    masks = job.pick(full=20, quick=3, smoke=1)

    def reconstructed(fit: bl.Fit) -> Tensor:
        term = fit.energy.fidelity
        seen = bl.fidelities.SampledL2(other, term.mask.detach(), term.kept, budget, learn=())
        model = bl.Variational(seen, fit.energy.regulariser)
        return replace(fit, energy=model).reconstruct(unseen.y).x

    def score(fit: bl.Fit) -> float:
        return float(complex_psnr(reconstructed(fit), unseen.target).mean())

    start = time.process_time()
    relaxed = refitted(job.part(0.0, 0.2), "sampling", free, pairs, steps)
    best = relaxed.energy.fidelity.binarised()
    fit = refitted(job.part(0.2, 0.25), "weight of the largest", best, pairs, refit)
    whole = bl.BilevelProblem(energy(free), bl.losses.SquaredError(), pairs)
    theta = {**fit.theta, "fidelity.sampling": best.sampling.detach()}
    tol = whole.first_accuracy(theta)
    job.progress(0.25, "exchanges")
    better = bl.exchanged(whole, theta, tol=tol, evaluations=5 * steps)["fidelity.sampling"]
    with torch.no_grad():
        best.sampling.copy_(better)
    fit = refitted(job.part(0.35, 0.4), "weight of the mask", best, pairs, refit)
    seconds, top, between = time.process_time() - start, score(fit), score(relaxed)
    density = free.mask.detach()[0] * ~kept
    drawn: list[tuple[float, bl.Fit]] = []
    for k in range(masks):
        mask = kept.float()[None].clone()
        chosen = density.multinomial(budget - int(kept.sum()), generator=generator(k, "masks"))
        mask[0, chosen] = 1.0
        own = bl.fidelities.SampledL2(operator, mask, kept[None], budget, learn=())
        part = job.part(0.4 + 0.6 * k / masks, 0.4 + 0.6 * (k + 1) / masks)
        one = refitted(part, f"drawn mask {k}", own, pairs, refit)
        drawn.append((score(one), one))
    values = [value for value, _ in drawn]
    mean, spread = statistics.mean(values), statistics.pstdev(values)
    taken = fit.energy.fidelity.mask.detach()
    numbers: dict[str, Any] = {
        "relaxed_psnr": between,
        "learned_psnr": top,
        "drawn_psnr": values,
        "drawn_mean": mean,
        "drawn_deviation": spread,
        "drawn_best": max(values),
        "gain": top - mean,
        "better_than": sum(value < top for value in values),
        "lines": taken[0].nonzero().flatten().tolist(),
        "lines_in_all": width,
        "lines_kept": int(kept.sum()),
        "share_percent": 100 * float(taken.sum()) / width,
        "processor_seconds": seconds,
    }
    lucky = max(drawn, key=lambda pair: pair[0])[1]
    draw(
        job,
        unseen.target,
        {"learned": (reconstructed(fit), fit), "drawn": (reconstructed(lucky), lucky)},
    )
    table = [
        ["learned, not binary yet", f"{between:.3f}"],
        ["learned, binary", f"{top:.3f}"],
        [f"{masks} of decaying density, mean ± deviation", f"{mean:.3f} ± {spread:.3f}"],
        ["the best of these", f"{max(values):.3f}"],
    ]
    said = [
        f"{len(numbers['lines'])} of {width} lines ({numbers['share_percent']:.0f} %), "
        f"{numbers['lines_kept']} of them in the middle: {top - mean:.2f} dB above the mean of "
        f"the masks drawn and {top - max(values):.2f} dB above the best of them.",
    ]
    return Results(
        numbers,
        [Table("Mask of lines, on slices of the other person", ["mask", "PSNR [dB]"], table)],
        said,
        SHORT,
        [Picture("images.png", "Slices of the other person, and the lines that are measured.")],
    )


def draw(job: Job, target: Tensor, found: dict[str, tuple[Tensor, bl.Fit]]) -> None:
    """The first slice and its reconstructions, then the masks, frequency zero in the middle."""
    shown = {"truth": target[:1].square().sum(1, keepdim=True).sqrt()}
    for name, (x, _) in found.items():
        shown[f"{name} lines"] = x[:1].square().sum(1, keepdim=True).sqrt()
    for name, (_, fit) in found.items():
        mask = torch.fft.fftshift(fit.energy.fidelity.mask.detach()[0])
        shown[f"mask: {name}"] = mask.expand(target.shape[2], -1)[None, None]
    draw_images(shown, job.out / "images.png")


SHORT = (
    "Slices are of half the resolution and of two people: nothing follows for other people.",
    "Lines are learned and not single points, for four coils; a budget of lines takes the place of "
    "the penalty, so that the share of k-space is chosen and not found.",
)

REPRODUCTION = Reproduction(
    name="sherry-2020-sampling",
    title="Learned sampling of k-space",
    paper="F. Sherry, M. Benning, J. C. De los Reyes, M. J. Graves, G. Maierhofer, G. Williams, "
    "C.-B. Schönlieb and M. J. Ehrhardt, Learning the sampling pattern for MRI, IEEE Transactions "
    "on Medical Imaging 39(12), 2020, arXiv 1906.08754.",
    did=(
        "A weight between 0 and 1 for every point or line of k-space, and the regularisation "
        "parameter, are learned by L-BFGS-B from fully sampled pairs, with a penalty that asks for "
        "few and binary weights.",
    ),
    here=(
        "T1 slices of two people at half resolution, made complex by smooth phases, four coils and "
        "noise of 0.01: lines within a budget of a quarter, the middle kept, with the weight of a "
        "total variation, learned on four slices of one person and judged on four of the other.",
        "The largest weights are taken and exchanged while the loss falls; the weight is learned "
        "anew for this mask and for 20 random masks of as many lines, whose density decays "
        "with the frequency.",
        "PSNR is of complex errors, the largest modulus of a slice being white.",
    ),
    run=run,
    known=(
        Known(
            "share of k-space that is sampled, five training pairs of brain slices of 192x192",
            "32 %",
            "quoted from the paper by its repository",
        ),
    ),
    needs=("mri_brain",),
    full="some minutes",
)
