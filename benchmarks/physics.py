"""The same models on two kinds of measurements: tomography, and magnetic resonance with four coils.

    python benchmarks/physics.py --data DIR --peers DIR [--only ct | mri] [--model NAME] [--quick]

Tomography: slices of `ct_abdomen` scaled to [0, 1], 60 parallel angles, Gaussian noise of 5 % of
the rms of the line integrals; the first image is filtered back-projection. Magnetic resonance:
slices of `mri_brain` (T1 of one person) with a smooth phase each, four coils, a quarter of the
lines, noise 0.01; the first image is zero-filled. Parameters are learned on one half of the slices
and judged on the other; they come from one person each, so that nothing follows for other people.

Ridge weights of a peer (``wcrr_bilevel_ift_denoising.safetensors`` in the folder of ``--peers``),
learned for denoising photographs, serve with two numbers fitted, weight and scale of grey values,
to the first two slices: a step on all of them takes minutes.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import data_folder, parser, results, save, table
from mri import HERE, complex_slice
from torch import Tensor

import bilevel as bl
from bilevel.cli.config import read
from bilevel.ground.memory import keep_freed_memory
from bilevel.model.channels import Channels
from bilevel.report import psnr

ANGLES, SHARE, NOISE = 60, 0.05, 0.01
PEER = "wcrr_bilevel_ift_denoising.safetensors"
FITTED = "WCRR of a peer, two numbers"
FEW = 2
"""Slices that these are fitted to."""


@dataclass(frozen=True)
class Physics:
    """An operator, noise, images to learn from and others, and what the first image is called."""

    operator: bl.operators.Operator
    noise: bl.data.GaussianNoise
    learned: Tensor
    held: Tensor
    first: str

    @property
    def complex(self) -> bool:
        """Whether images are pairs of channels."""
        return self.learned.shape[1] == 2


def tomography(data: Path, step: int) -> Physics:
    """Slices in turn to learn from and to hold out."""
    paths = sorted((data / "ct_abdomen").glob("*.png"))
    hounsfield = torch.cat([65535 * bl.data.load_image(p) for p in paths]) - 1024
    images = ((hounsfield + 1000) / 4071).clamp(0, 1)
    operator = bl.operators.Radon((images.shape[2], images.shape[3]), ANGLES)
    sigma = SHARE * float(operator(images).square().mean().sqrt())
    parts = images[:: 2 * step], images[1 :: 2 * step]
    return Physics(operator, bl.data.GaussianNoise(sigma), *parts, "filtered back-projection")


def resonance(data: Path, step: int) -> Physics:
    """Slices in turn to learn from and to hold out."""
    paths = sorted((data / "mri_brain").glob("s1_t1_*.png"))
    images = torch.cat([complex_slice(p, half=step > 1) for p in paths])
    operator = read(HERE / "mri_tv.toml").configuration.operator.build(tuple(images.shape[1:]))
    operator = operator.to(images.dtype)
    parts = images[:: 2 * step], images[1 :: 2 * step]
    return Physics(operator, bl.data.GaussianNoise(NOISE), *parts, "zero-filled")


def models(physics: Physics, peers: Path) -> dict[str, bl.regularisers.ImageTerm]:
    """Regularisers by name, from weights that are in proportion to σ ‖A‖ on."""
    c, h, w = physics.learned.shape[1:]
    norm = physics.operator.gram_bounds((c, h, w)).upper ** 0.5
    strength, together = 10 * float(physics.noise.sigma) * norm, physics.complex
    found: dict[str, bl.regularisers.ImageTerm] = {
        "TV": bl.regularisers.TotalVariation(0.05 * strength, 0.01, coupled=together),
        "TGV²": bl.regularisers.TotalGeneralisedVariation(
            0.05 * strength, 2.0, 3e-3, coupled=together, learn=("weight", "ratio")
        ),
        "FoE": bl.regularisers.FieldsOfExperts(
            weight=0.01 * strength, smoothing=0.04, coupled=together, potential="student-t"
        ),
    }
    ridge = bl.regularisers.RidgeRegulariser.load(peers / PEER, weakly_convex=True, learn=())
    found[FITTED] = alone(bl.regularisers.Rescaled(ridge, strength, 1.0), together)
    return found


def alone(one: bl.regularisers.Regulariser, together: bool) -> bl.regularisers.ImageTerm:
    """Of real and imaginary parts each, for filters of one channel."""
    if not together:
        return one
    parts = (Channels((k,), 2) for k in range(2))
    return bl.regularisers.Sum([bl.regularisers.Composed(one, part) for part in parts])


def tried(
    physics: Physics,
    regulariser: bl.regularisers.ImageTerm,
    minutes: float,
    images: int | None,
) -> dict[str, Any]:
    """Learned within so many minutes, from so many slices, and judged on those held out."""
    pairs, held = (
        bl.data.simulate(images, physics.operator, physics.noise, seed=seed)
        for seed, images in enumerate((physics.learned, physics.held))
    )
    fidelity = bl.fidelities.SquaredL2(physics.operator, learn=())
    energy = bl.Variational(fidelity, regulariser)
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    budget = bl.Budget(seconds=60 * minutes)
    start = time.perf_counter()
    if images is None:
        fit = bl.learn(problem, budget=budget)
    else:
        fit = bl.pretrain(problem, bl.pretraining.ScalarFit(images=images), budget=budget)
    learning = time.perf_counter() - start
    start = time.perf_counter()
    solution = fit.reconstruct(held.y)
    solving = time.perf_counter() - start
    return {
        "parameters": sum(value.numel() for value in fit.theta.values()),
        "learning_seconds": learning,
        "steps": len(fit.history) - 1,
        "status": fit.status.name,
        "seconds_an_image": solving / len(held.y),
        "steps_an_image": float(solution.steps.double().mean()),
        "converged": int(solution.converged.sum()),
        "certified_rms": solution.certificate.rms.tolist(),
        "psnr": psnr(fit.energy.image(solution.x), held.target).tolist(),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def row(label: str, found: dict[str, Any]) -> list[str]:
    """Of the table."""
    psnrs = found["psnr"]
    proved = sum(map(math.isfinite, found["certified_rms"]))
    return [
        label,
        str(found["parameters"]),
        f"{found['learning_seconds']:.0f}",
        f"{found['seconds_an_image']:.2f}",
        f"{proved} of {len(psnrs)}",
        f"{sum(psnrs) / len(psnrs):.2f}",
    ]


def measured(
    name: str, physics: Physics, chosen: Namespace, before: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """All models on one kind of data, or the one chosen; and the first image beside them."""
    y = bl.data.simulate(physics.held, physics.operator, physics.noise, seed=1).y
    first = psnr(physics.operator.start(y), physics.held)
    numbers: dict[str, Any] = {**before, "first": first.tolist()}
    known = models(physics, chosen.peers)
    if chosen.model not in (None, *known):
        raise SystemExit(f"--model is one of {', '.join(known)}; given {chosen.model}")
    for label, regulariser in known.items():
        if chosen.model in (None, label):
            few = FEW if label == FITTED else None
            numbers[label] = tried(physics, regulariser, chosen.minutes, few)
            print(name, row(label, numbers[label]), flush=True)
    header = ["", "parameters", "learned in [s]", "a slice in [s]", "certified", "held out [dB]"]
    lines = [[physics.first, "0", "", "", "", f"{float(first.mean()):.2f}"]]
    lines += [row(label, numbers[label]) for label in known if label in numbers]
    return table(header, lines), numbers


def main() -> None:
    """Both kinds of measurements."""
    options = parser("The same models on tomography and magnetic resonance.")
    options.add_argument("--peers", type=Path, help="folder with the weights of a peer")
    options.add_argument("--only", choices=("ct", "mri"))
    options.add_argument("--minutes", type=float, default=5.0, help="of learning a model")
    options.add_argument("--model", help="only this one, beside the results that are there")
    options.add_argument("--quick", action="store_true", help="few slices")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    data, step = data_folder(chosen), 4 if chosen.quick else 1
    for name, make in (("ct", tomography), ("mri", resonance)):
        if chosen.only in (None, name):
            place = f"physics_{name}" + ("_quick" if chosen.quick else "")
            before = {} if chosen.model is None else results(place)
            save(place, *measured(name, make(data, step), chosen, before))


if __name__ == "__main__":
    main()
