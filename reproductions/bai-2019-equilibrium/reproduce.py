"""Bai, Kolter and Koltun 2019: layers that are solved, at the scale of digits and small images."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from deep_equilibrium import denoising, digits, memory
from deep_equilibrium.networks import Classifier, ConvolutionCell, Denoiser

from bilevel.data import embedded_images
from bilevel.report import psnr
from bilevel.report.reproduction import Job, Known, Picture, Reproduction, Results, Table
from drawing import draw_images

SIGMA = 0.1


def classified(job: Job) -> dict[str, Any]:
    """Accuracies of every seed, with the setting that is best on training digits held back."""
    images, held_out, labels, expected = digits.split()
    few = job.pick(full=len(images), quick=512, smoke=64)
    images, labels = images[:few], labels[:few]
    epochs = job.pick(full=30, quick=6, smoke=1)
    channels = job.pick(full=digits.CHANNELS, quick=8, smoke=2)
    settings = [replace(setting, epochs=epochs) for setting in digits.SETTINGS]
    found = digits.validated(images, labels, settings, channels)
    setting = max(found, key=lambda one: found[one])
    seeds = job.pick(full=3, quick=1, smoke=1)
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        part = job.part((2 + seed) / (2 + seeds), (3 + seed) / (2 + seeds))
        torch.manual_seed(seed)
        model, begin = Classifier(channels), time.process_time()
        failed = digits.train(
            model,
            images,
            labels,
            setting,
            seed,
            told=lambda done, part=part, seed=seed: part.progress(done, f"digits, seed {seed}"),
        )
        seconds = time.process_time() - begin
        with torch.no_grad():
            steps = float(model(held_out)[1].solution.steps.float().mean())
        runs.append(
            {
                "held_out": digits.accuracy(model, held_out, expected),
                "training": digits.accuracy(model, images, labels),
                "rows_not_converged": failed,
                "steps": steps,
                "processor_seconds": seconds,
            }
        )
    shifts = {f"shifts of {one.reach}": value for one, value in found.items()}
    return {"validation": shifts, "reach": setting.reach, "channels": channels, "runs": runs}


def denoised(job: Job) -> dict[str, Any]:
    """PSNR of the embedded pictures held out, before and after."""
    images = embedded_images(job.pick(full=128, quick=128, smoke=24))
    held_out = images[list(denoising.HELD_OUT)]
    known = images[[k for k in range(len(images)) if k not in denoising.HELD_OUT]]
    torch.manual_seed(0)
    model, begin = Denoiser(job.pick(full=24, quick=8, smoke=2)), time.process_time()
    failed = denoising.train(
        model,
        known,
        sigma=SIGMA,
        steps=job.pick(full=400, quick=60, smoke=1),
        side=job.pick(full=32, quick=24, smoke=12),
        told=lambda done: job.progress(done, "denoising"),
    )
    seconds = time.process_time() - begin
    y = denoising.noisy(held_out, SIGMA, "held out")
    with torch.no_grad():
        x, found = model(y)
    shown = {"truth": held_out[:1], "noisy": y[:1], "denoised": x[:1]}
    draw_images(shown, job.out / "images.png")
    return {
        "noisy_psnr": float(psnr(y, held_out).mean()),
        "denoised_psnr": float(psnr(x, held_out).mean()),
        "rows_not_converged": failed,
        "steps": found.solution.steps.tolist(),
        "processor_seconds": seconds,
    }


def remembered(job: Job) -> dict[str, Any]:
    """MiB that autograd keeps, over forward iterations."""
    iterations = job.pick(full=memory.ITERATIONS, quick=memory.ITERATIONS, smoke=(1, 10))
    torch.manual_seed(0)
    cell, y, start = ConvolutionCell(1, 16), torch.rand(8, 1, 32, 32), torch.zeros(8, 16, 32, 32)
    found: dict[str, list[float]] = {"unrolled": [], "implicit": []}
    for k in iterations:
        for name, way in (("unrolled", memory.unrolled), ("implicit", memory.implicit)):
            size = memory.saved_bytes(lambda way=way, k=k: way(cell, y, start, k))
            found[name].append(size / 2**20)
    memory.draw(list(iterations), found, job.out / "memory.png")
    return {"iterations": list(iterations), "mebibytes": found}


def run(job: Job) -> Results:
    """Digits, denoising, memory."""
    with torch.random.fork_rng(devices=[]):
        numbers = {
            "digits": classified(job.part(0.0, 0.5)),
            "denoising": denoised(job.part(0.5, 0.95)),
            "memory": remembered(job),
        }
    first = [
        [
            str(seed),
            f"{100 * r['held_out']:.2f}",
            f"{100 * r['training']:.2f}",
            f"{r['steps']:.1f}",
            str(r["rows_not_converged"]),
        ]
        for seed, r in enumerate(numbers["digits"]["runs"])
    ]
    kept = numbers["memory"]
    second = [
        [str(k), f"{unrolled:.2f}", f"{implicit:.2f}"]
        for k, unrolled, implicit in zip(
            kept["iterations"], *kept["mebibytes"].values(), strict=True
        )
    ]
    last = {name: values[-1] for name, values in kept["mebibytes"].items()}
    saved = 100 * (1 - last["implicit"] / last["unrolled"])
    numbers["memory"]["saved_percent"] = saved
    found = numbers["denoising"]
    return Results(
        numbers,
        [
            Table(
                "Digits, 450 held out",
                ["seed", "held out [%]", "training [%]", "steps", "rows not converged"],
                first,
            ),
            Table(
                "Memory of the tape [MiB]", ["forward iterations", "unrolled", "implicit"], second
            ),
        ],
        [
            f"Against {kept['iterations'][-1]} unrolled iterations the tape keeps {saved:.0f} % "
            "less; implicitly it does not depend on their number.",
            f"Denoising of two pictures held out, noise of 0.1: {found['noisy_psnr']:.2f} dB "
            f"before, {found['denoised_psnr']:.2f} dB after.",
        ],
        SHORT,
        [
            Picture("memory.png", "Memory of the tape against forward iterations."),
            Picture("images.png", "One of the pictures held out: truth, noisy, denoised."),
        ],
    )


SHORT = (
    "No language model is trained: sequences of the size of the paper are out of reach of two "
    "cores, so that only the layer and its memory are reproduced, not the perplexities.",
    "Cells are contractions by Schur's test, which is coarse: few steps are needed, and the "
    "models are shallower than they could be.",
)

REPRODUCTION = Reproduction(
    name="bai-2019-equilibrium",
    title="Deep equilibrium models",
    paper="S. Bai, J. Z. Kolter and V. Koltun, Deep equilibrium models, NeurIPS 2019, arXiv "
    "1909.01377.",
    did=(
        "A layer whose output is the solution of z = f(z; y), found by Broyden's method and "
        "differentiated by the implicit function theorem, so that memory does not depend on how "
        "deep it is; sequence models of this kind on word-level language modelling.",
    ),
    here=(
        "The same layer for any module f, with Picard, Anderson and Broyden, which let converged "
        "rows leave the batch, and backward by GMRES, BiCGStab or Anderson (deep_equilibrium).",
        "A classifier of 8x8 digits, trained on three quarters of 1797, whose setting is the one "
        "that is best on a quarter of the training digits; a denoiser of the embedded pictures, "
        "trained on six and judged on two; the memory that autograd keeps on 8 images of 32x32 "
        "with 16 channels.",
        "Tolerances are 1e-3 forward and backward, float32.",
    ),
    run=run,
    known=(Known("memory saved against unrolled models", "up to 88 %", "abstract"),),
    full="about a quarter of an hour",
    packages=("sklearn",),
)
