"""Calatroni et al. 2017: learned weights of total variation and of what generalises it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import bilevel as bl
from bilevel.report.reproduction import Job, Reproduction, Results
from denoising import NEEDS, Model, compared

SMOOTHING = 1e-3


def total_variation() -> bl.Variational:
    """One weight; the Huber smoothing is fixed."""
    tv = bl.regularisers.TotalVariation(0.08, SMOOTHING, learn=("weight",))
    return bl.Variational(bl.fidelities.SquaredL2(), tv)


REGULARISERS: dict[str, Callable[[], bl.Variational]] = {"TV": total_variation}


def run(job: Job) -> Results:
    """Learn each, and judge them on the same pictures."""
    models = {name: Model(make) for name, make in REGULARISERS.items()}
    results, _ = compared(job, models, minutes=20)
    said = [
        f"{name} reaches {results.numbers[name]['test_psnr']:.2f} dB and an SSIM of "
        f"{results.numbers[name]['test_ssim']:.3f}."
        for name in models
    ]
    return replace(results, findings=said, short=SHORT)


SHORT = ("TGV² and ICTV are not run yet.",)

REPRODUCTION = Reproduction(
    name="calatroni-2017-regularisers",
    title="Learned total variation",
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
        "The weight of total variation with a squared loss, learned on 200 crops of 64x64 pixels "
        "with noise of 25/255 and judged on BSD68, which is looked at when learning has ended.",
    ),
    run=run,
    needs=NEEDS,
    full="about half an hour",
)
