"""Calatroni et al. 2017: learned weights of total variation and of what generalises it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import bilevel as bl
from bilevel.report.reproduction import Job, Reproduction, Results
from denoising import NEEDS, Model, compared

SMOOTHING = 5e-3


def total_variation() -> bl.Variational:
    """One weight; the Huber smoothing is fixed."""
    tv = bl.regularisers.TotalVariation(0.08, SMOOTHING, potential="huber", learn=("weight",))
    return bl.Variational(bl.fidelities.SquaredL2(), tv)


def second_order(kind: type[bl.regularisers.Regulariser]) -> bl.Variational:
    """Weight and ratio; the Huber smoothing is fixed."""
    part = kind(0.08, 4.0, SMOOTHING, learn=("weight", "ratio"))  # type: ignore[call-arg]
    return bl.Variational(bl.fidelities.SquaredL2(), part)


REGULARISERS: dict[str, Callable[[], bl.Variational]] = {
    "TV": total_variation,
    "TGV²": lambda: second_order(bl.regularisers.TotalGeneralisedVariation),
    "ICTV": lambda: second_order(bl.regularisers.InfimalConvolutionTV),
}


def run(job: Job) -> Results:
    """Learn each, and judge them on the same pictures."""
    models = {name: Model(make) for name, make in REGULARISERS.items()}
    results, _ = compared(job, models, minutes=45)
    said = [
        f"{name} reaches {results.numbers[name]['test_psnr']:.2f} dB and an SSIM of "
        f"{results.numbers[name]['test_ssim']:.3f}."
        for name in models
    ]
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
        "The weight of total variation, weight and ratio of the other two, with a squared loss, "
        "learned on 200 crops of 64x64 pixels with noise of 25/255 and judged on BSD68, which is "
        "looked at when learning has ended. All are smoothed by a Huber function.",
    ),
    run=run,
    needs=NEEDS,
    full="about an hour",
    timed=True,
)
