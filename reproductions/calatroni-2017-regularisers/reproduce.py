"""Calatroni et al. 2017: learned weights of total variation and of what generalises it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import mean, stdev
from typing import Any

import bilevel as bl
from bilevel.report.reproduction import Job, Reproduction, Results
from denoising import NEEDS, Model, Stage, compared, with_weights

FIRST, SECOND = 2e-3, 5e-3
"""Where lengths are smoothed [grey value]."""
WHOLE = (Stage("whole pictures", on="whole"),)


def total_variation(grid: tuple[int, int] | None = None) -> bl.Variational:
    """One weight, or one a knot of a grid over the picture; the Huber smoothing is fixed."""
    tv = bl.regularisers.TotalVariation(
        0.08, FIRST, potential="huber", grid=grid, learn=("weight",)
    )
    return bl.Variational(bl.fidelities.SquaredL2(), tv)


def second_order(kind: type[bl.regularisers.Regulariser]) -> bl.Variational:
    """Weight and ratio; the Huber smoothing is fixed."""
    part = kind(0.08, 4.0, SECOND, learn=("weight", "ratio"))  # type: ignore[call-arg]
    return bl.Variational(bl.fidelities.SquaredL2(), part)


def models() -> dict[str, Model]:
    """From one number to a map of few."""
    tgv, ictv = bl.regularisers.TotalGeneralisedVariation, bl.regularisers.InfimalConvolutionTV
    return {
        "TV": Model(total_variation, 0.5),
        "TGV²": Model(lambda: second_order(tgv), 2.0),
        "ICTV": Model(lambda: second_order(ictv), 2.0),
        "TV from whole pictures": Model(total_variation, 0.5, WHOLE),
        "TV, 4x4 weights": Model(lambda: total_variation((4, 4)), 1.0, WHOLE),
    }


def in_words(name: str, numbers: Mapping[str, Any]) -> str:
    """What a model reaches, and by how much it exceeds total variation, picture by picture."""
    one, tv = (numbers[n]["test"]["psnr"] for n in (name, "TV"))
    reached = f"{name} reaches {numbers[name]['test_psnr']:.2f} dB and an SSIM of "
    reached += f"{numbers[name]['test_ssim']:.3f}"
    if name == "TV" or len(one) < 2:
        return f"{reached}."
    gains = [a - b for a, b in zip(one, tv, strict=True)]
    error = stdev(gains) / math.sqrt(len(gains))
    return f"{reached}, {mean(gains):+.3f} dB from TV (standard error {error:.3f})."


def run(job: Job) -> Results:
    """Learn each, and judge them on the same pictures."""
    found = models()
    results, fits = compared(job, found, minutes=45, count=24)
    said = [in_words(name, results.numbers) for name in found]
    results = with_weights(results, fits["TV, 4x4 weights"], job.out)
    return replace(results, findings=said, short=SHORT)


SHORT = ("The figures of the paper are unknown to us.",)

REPRODUCTION = Reproduction(
    name="calatroni-2017-regularisers",
    title="Learned total variation of first and second order",
    paper="L. Calatroni, C. Cao, J. C. De los Reyes, C.-B. Schönlieb and T. Valkonen, Bilevel "
    "approaches for learning of variational imaging models, in: Variational Methods in Imaging "
    "and Geometric Control, De Gruyter, 2017.",
    did=(
        "Weights of total variation, of second-order total generalised variation and of its "
        "infimal convolution with second differences are learned for denoising, with a squared "
        "error and with a smoothed total variation of the error as losses, by a quasi-Newton "
        "method over a semismooth Newton method.",
    ),
    here=(
        "The weight of total variation, weight and ratio of the other two, with the PSNR as loss, "
        "learned on 24 crops of 128x128 pixels with noise of 25/255 and judged on BSD68, which is "
        "looked at when learning has ended. All are smoothed by a Huber function, "
        f"of {FIRST} grey values for total variation and {SECOND} for the other two.",
        "One weight, and 4x4 weights interpolated over the picture, learned on whole pictures.",
    ),
    run=run,
    needs=NEEDS,
    full="about an hour",
    timed=True,
)
