"""Magnetic resonance with four coils: total variation, experts and learned sampling.

    python benchmarks/mri.py --data DIR [--work FOLDER] [--only reconstruction | sampling] [--half]

Slices of `mri_brain` are made complex by smooth phases and written to disk. From 16 slices of one
person a quarter of the lines is kept, noise 0.01: total variation with coupled channels and a field
of experts are learned with the configurations beside this file, and used on other slices. The
learned weight stands beside the best of a dense search.

Then a mask of lines is learned, with the weight of a total variation, on one person, made binary to
exactly a quarter of the lines by the largest weights and by exchanges, and used on another person,
beside 20 random masks of as many lines whose density decays with the frequency; the weight is
learned anew for every mask. Nothing follows for other people. PSNR is of complex errors, the
largest modulus of a slice being white.
With `--half` slices have half the resolution, a quarter of the pixels.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from common import data_folder, parser, save, table
from torch import Tensor

import bilevel as bl
from bilevel.cli.app import main as bilevel
from bilevel.cli.config import read
from bilevel.cli.images import Batch, by_size
from bilevel.cli.learning import build_problem
from bilevel.cli.measured import learning_images
from bilevel.cli.reconstruction import Reconstructor, simulated
from bilevel.ground.randomness import generator

HERE = Path(__file__).parent
LEARNED, HELD, MASKS, REFIT, WEIGHT = 16, 8, 20, 8, 0.002
NOISE, COILS, ACCELERATION, CENTRE = 0.01, 4, 4, 0.08


def complex_slice(path: Path, half: bool) -> Tensor:
    """A slice with a smooth phase of its own, (1, 2, h, w)."""
    x = bl.data.load_image(path, grey=True)
    x = bl.operators.Downsampling(2)(x) if half else x
    h, w = x.shape[2:]
    v, u = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)[None]
    a = torch.randn(6, generator=generator(0, "phase", path.name))
    phase = a[0] * 3 + a[1] * u + a[2] * v + 0.5 * (a[3] * u * v + a[4] * u**2 + a[5] * v**2)
    return torch.cat([x * phase.cos(), x * phase.sin()], 1)


def write_slices(source: Path, work: Path, half: bool) -> None:
    """Slices of even number to learn from and of odd number to hold out, as complex arrays."""
    for name, parity, count in (("learn", 0, LEARNED), ("held", 1, HELD)):
        (work / name).mkdir(parents=True, exist_ok=True)
        paths = sorted(source.glob("s1_*.png"))
        chosen = [p for p in paths if int(p.stem[-2:]) % 2 == parity]
        places = np.linspace(0, len(chosen) - 1, count).round().astype(int)
        for path in (chosen[k] for k in places):
            re, im = complex_slice(path, half)[0].double().numpy()
            np.save(work / name / f"{path.stem}.npy", (re + 1j * im).astype(np.complex64))


def psnr(x: Tensor, target: Tensor) -> Tensor:
    """Of complex errors, (b,) [dB]."""
    peak = target.square().sum(1).flatten(1).amax(1)
    return 10 * (peak / (x - target).square().sum(1).flatten(1).mean(1)).log10()


def held_out(work: Path, fit: Path) -> tuple[Tensor, Tensor]:
    """PSNR of zero-filled and learned reconstructions of the held-out slices."""
    loaded = Reconstructor.load(fit, None)
    paths = sorted((work / "held").glob("*.npy"))
    (batch,) = by_size((p.name, bl.data.load_image(p)) for p in paths)
    samples = loaded.samples(simulated(loaded.configuration, batch), lambda count: None)
    return psnr(samples.before, samples.target), psnr(samples.after, samples.target)


def again(work: Path, fit: Path) -> float:
    """The largest difference of reconstructions after saving and loading once more."""
    first = bl.load(fit)
    second = bl.load(first.save(work / "again", state=False))
    document = read(HERE / "mri_tv.toml")
    images = learning_images(document, str(work)).training
    y = simulated(document.configuration, Batch(images.ids[:2], images.images[:2])).y
    return float((first.reconstruct(y).x - second.reconstruct(y).x).abs().max())


def searched(work: Path, fit: Path) -> tuple[float, float, float, float]:
    """PSNR of the mean error with the learned weight, and with the best of a dense search."""
    document = read(HERE / "mri_tv.toml")
    images = learning_images(document, str(work))
    problem = build_problem(document.configuration, images.training)
    (name, learned), *_ = bl.load(fit).theta.items()

    def value(log_weight: float) -> float:
        return float(problem.value({name: torch.tensor(log_weight)}, tol=1e-5))

    here = value(float(learned))
    found = {float(learned): here}
    for step in (0.7, 0.35, 0.1):
        centre = min(found, key=lambda w: found[w])
        for k in (-2, -1, 1, 2):
            found.setdefault(centre + k * step, value(centre + k * step))
    best = min(found, key=lambda w: found[w])
    decibels = [-10 * float(np.log10(v)) for v in (here, found[best])]
    return decibels[0], decibels[1], float(np.exp(float(learned))), float(np.exp(best))


def reconstruction(source: Path, work: Path, half: bool) -> tuple[str, dict[str, Any]]:
    """Learn both from files and use them on slices held out."""
    write_slices(source, work, half)
    lines: list[list[str]] = []
    numbers: dict[str, Any] = {}
    for name in ("tv", "experts"):
        config, fit, start = HERE / f"mri_{name}.toml", work / name, time.process_time()
        code = bilevel(["learn", str(config), "--data", str(work), "--out", str(fit)])
        seconds = time.process_time() - start
        before, after = held_out(work, fit)
        steps = len(bl.load(fit).history) - 1
        numbers[name] = {
            "exit_code": code,
            "processor_seconds_with_report": seconds,
            "steps": steps,
            "held_out_psnr": after.tolist(),
            "zero_filled_psnr": before.tolist(),
            "saved_and_loaded_differ_by": again(work, fit),
        }
        mean = [f"{float(p.mean()):.3f}" for p in (before, after)]
        lines.append([name, f"{seconds:.0f}", str(steps), *mean])
        print(lines[-1], flush=True)
    here, best, weight, optimum = searched(work, work / "tv")
    gain = np.subtract(numbers["experts"]["held_out_psnr"], numbers["tv"]["held_out_psnr"])
    numbers["dense_search"] = {"learned_db": here, "best_db": best, "weights": [weight, optimum]}
    numbers["experts_gain_db"] = {"mean": float(gain.mean()), "least": float(gain.min())}
    header = [
        "",
        "processor seconds, report included",
        "outer steps",
        "zero-filled [dB]",
        "held out [dB]",
    ]
    text = (
        f"{table(header, lines)}\n\nThe learned weight of total variation is {weight:.3g}, that of "
        f"the dense search {optimum:.3g}: {best - here:.4f} dB of the training slices lie between "
        f"them. Experts gain {gain.mean():.2f} dB over it on {HELD} slices held out, "
        f"{gain.min():.2f} at least. Saved and loaded once more, images differ by at most "
        f"{max(n['saved_and_loaded_differ_by'] for n in list(numbers.values())[:2]):.1g}."
    )
    return text, numbers


# ------------------------------------------------------------------------------ sampling


def people(source: Path, count: int, half: bool) -> tuple[Tensor, Tensor]:
    """T1 slices of one person, as wide as those of the other, and of the other."""
    parts: list[Tensor] = []
    for person in ("s1", "s2"):
        paths = sorted(source.glob(f"{person}_t1_*.png"))[:: 12 // count][:count]
        parts.append(torch.cat([complex_slice(p, half) for p in paths]))
    room = parts[1].shape[3] - parts[0].shape[3]
    return torch.nn.functional.pad(parts[0], (room // 2, room - room // 2)), parts[1]


def measured(x: Tensor) -> tuple[bl.operators.MultiCoil, bl.data.Pairs]:
    """All of k-space."""
    size = (x.shape[2], x.shape[3])
    maps = bl.data.birdcage(size, COILS)
    operator = bl.operators.MultiCoil(torch.ones(size), maps)
    return operator, bl.data.simulate(x, operator, bl.data.GaussianNoise(NOISE), seed=0)


def energy(fidelity: bl.fidelities.SampledL2, weight: float) -> bl.Variational:
    """With a total variation of that weight."""
    tv = bl.regularisers.TotalVariation(weight, 0.01, coupled=True, learn=("weight",))
    return bl.Variational(fidelity, tv)


def learned(model: bl.Variational, pairs: bl.data.Pairs, steps: int) -> bl.Fit:
    """In so many outer steps at most."""
    problem = bl.BilevelProblem(model, bl.losses.SquaredError(), pairs)
    return bl.learn(problem, budget=bl.Budget(steps=steps))


def sampling(source: Path, count: int, steps: int, half: bool) -> tuple[str, dict[str, Any]]:
    """One mask learned, 20 drawn; a weight learned on the first person for each."""
    first, second = people(source, count, half)
    width = first.shape[3]
    (operator, pairs), (other, unseen) = measured(first), measured(second)
    frequency = 2 * torch.fft.fftfreq(width).abs()
    kept = torch.zeros(width, dtype=torch.bool)
    kept[frequency.argsort(stable=True)[: round(width * CENTRE)]] = True
    profile, budget = ((1 - frequency) ** 3)[None], width // ACCELERATION
    free = bl.fidelities.SampledL2(operator, profile, kept[None], budget)

    def score(fit: bl.Fit) -> float:
        term = fit.energy.fidelity
        model = bl.Variational(
            bl.fidelities.SampledL2(other, term.mask.detach(), term.kept, budget, learn=()),
            fit.energy.regulariser,
        )
        solution = replace(fit, energy=model).reconstruct(unseen.y)
        return float(psnr(solution.x, unseen.target).mean())

    start = time.process_time()
    whole = bl.BilevelProblem(energy(free, WEIGHT), bl.losses.SquaredError(), pairs)
    relaxed = bl.learn(whole, budget=bl.Budget(steps=steps))
    best = relaxed.energy.fidelity.binarised()
    fit = learned(energy(best, WEIGHT), pairs, REFIT)
    theta = {**fit.theta, "fidelity.sampling": best.sampling.detach()}
    tol = whole.first_accuracy(theta)
    better = bl.exchanged(whole, theta, tol=tol, evaluations=5 * steps)["fidelity.sampling"]
    with torch.no_grad():
        best.sampling.copy_(better)
    fit = learned(energy(best, WEIGHT), pairs, REFIT)
    took, top = time.process_time() - start, score(fit)
    print("learned mask", top, score(relaxed), took, flush=True)
    density = free.mask.detach()[0] * ~kept
    drawn: list[float] = []
    for k in range(MASKS):
        rng = generator(k, "masks")
        mask = kept.float()[None].clone()
        mask[0, density.multinomial(budget - int(kept.sum()), generator=rng)] = 1.0
        own = bl.fidelities.SampledL2(operator, mask, kept[None], budget, learn=())
        drawn.append(score(learned(energy(own, WEIGHT), pairs, REFIT)))
        print(k, drawn[-1], flush=True)
    mean, spread = float(np.mean(drawn)), float(np.std(drawn, ddof=1))
    lines = [
        ["learned, not binary yet", f"{score(relaxed):.3f}"],
        ["learned, binary", f"{top:.3f}"],
        [f"{MASKS} of decaying density, mean ± deviation", f"{mean:.3f} ± {spread:.3f}"],
        ["the best of these", f"{max(drawn):.3f}"],
    ]
    middle, total = int(kept.sum()), int(fit.energy.fidelity.mask.detach().sum())
    text = (
        f"{table(['mask of lines', 'other person [dB]'], lines)}\n\n{total} of {width} lines, "
        f"{middle} of them in the middle, learned from {count} slices of one person in {took:.0f} "
        f"s of a processor: {top - mean:.2f} dB above the mean of the masks drawn, on {count} "
        "slices of another person."
    )
    lines_kept = fit.energy.fidelity.mask[0].nonzero().flatten().tolist()
    numbers = {"learned": top, "drawn": drawn, "lines": lines_kept, "gain_db": top - mean}
    return text, numbers


def main() -> None:
    """Both parts, or one."""
    options = parser(__doc__ or "")
    options.add_argument("--work", type=Path, help="where slices and fits are written")
    options.add_argument("--only", choices=("reconstruction", "sampling"))
    options.add_argument("--count", type=int, default=4, help="slices a person")
    options.add_argument("--steps", type=int, default=20, help="to learn a mask")
    options.add_argument("--half", action="store_true", help="half the resolution")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    source, half = data_folder(chosen) / "mri_brain", chosen.half
    name = "mri_half" if half else "mri"
    if chosen.only != "sampling":
        with tempfile.TemporaryDirectory() as folder:
            save(name, *reconstruction(source, chosen.work or Path(folder), half))
    if chosen.only != "reconstruction":
        save(f"{name}_sampling", *sampling(source, chosen.count, chosen.steps, half))


if __name__ == "__main__":
    main()
