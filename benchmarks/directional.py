"""Directional total variation with automatic maps against the best single weight of plain TV.

    python benchmarks/directional.py --data DIR [--quick] [--size N] [--seed S] [--least P]

Crops of N x N (128): the middles of brick, grass, gravel and camera, and one of each of the first
ten test files of BSDS500. Denoising (σ = 0.1) and deblurring (Gaussian, deviation 1.2 pixels,
σ = 0.02). For each image by itself:

- TV by the weight that is best for the truth (``Oracle``, by search), and by discrepancy;
- DTV: maps from the TV by discrepancy, with exponents from P (1: convex) to 2, then one weight by
  discrepancy, and the best one;
- the same without the map of weights: directions and exponents alone.

ISNR is 10 log10(‖y - x‖²/‖x̂ - x‖²), of images as they are. Differences are to the best TV, image
by image: mean (deviation), least, how many are better.

Then few numbers are learned on crops of the upper halves of the pictures, weight, exponent,
direction and gain on a grid of 2 x 2 knots, from the means of the automatic maps, and used on
crops of the lower halves. ``--quick`` takes 48 x 48
pixels of two images and fewer steps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import data_folder, parser, save, table
from torch import Tensor

import bilevel as bl
from bilevel.report.metrics import ssim
from bilevel.select import Rule
from bilevel.select.select import span_of

SMOOTHING, BLUR, ACCURACY = 0.01, 1.2, 1e-3
SIGMAS = {"denoising": 0.1, "deblurring": 0.02}
PICTURES, FILES = ("brick", "grass", "gravel", "camera"), 10
TEXTURES = PICTURES[:3]
BEST = "TV, best weight"


def images(folder: Path, size: int, quick: bool) -> dict[str, Tensor]:
    """By name, (1, 1, size, size)."""
    found = {n: bl.data.centre_crop(picture(folder, n), (size, size)) for n in PICTURES}
    for file in sorted((folder / "bsds500" / "test").glob("*.png"))[:FILES]:
        whole = bl.data.load_image(file, grey=True).double()
        found[file.stem] = bl.data.crops([(file.name, whole)], size, 1, seed=0)[0]
    return dict(list(found.items())[3:5]) if quick else found


def picture(folder: Path, name: str) -> Tensor:
    """One that anybody may use."""
    return bl.data.load_image(folder / "cc0" / f"{name}.png", grey=True).double()


def fidelity(task: str) -> bl.fidelities.SquaredL2:
    """Of the identity, or of a Gaussian blur."""
    if task == "denoising":
        return bl.fidelities.SquaredL2().double()
    return bl.fidelities.SquaredL2(bl.operators.GaussianBlur(BLUR)).double()


@dataclass(frozen=True)
class Quality:
    """Of one reconstruction."""

    isnr: float
    ssim: float

    @staticmethod
    def of(x: Tensor, truth: Tensor, y: Tensor) -> Quality:
        """Against the truth."""
        gain = (y - truth).square().mean() / (x - truth).square().mean()
        return Quality(10 * float(gain.log10()), float(ssim(x, truth)))


def chosen_by(energy: bl.Variational, y: Tensor, rule: Rule) -> Tensor:
    """The reconstruction. Exponents near 2 need larger weights than the range usually holds."""
    low, high = (float(end) for end in span_of(energy, y))
    return bl.select(energy, y, rule, span=(low, 100 * high), accuracy=ACCURACY).x


def reconstructions(task: str, truth: Tensor, y: Tensor, least: float) -> dict[str, Quality]:
    """All of one image."""
    sigma, data = SIGMAS[task], fidelity(task)
    noise, oracle = bl.rules.Discrepancy(sigma), bl.rules.Oracle(truth)
    tv = bl.Variational(data, bl.regularisers.TotalVariation(1.0, SMOOTHING).double())
    first = chosen_by(tv, y, noise)
    found = {BEST: chosen_by(tv, y, oracle), "TV, discrepancy": first}
    maps = bl.directional_maps(first, exponents=(least, 2.0))
    level = maps.size.log().mean().exp() * torch.ones_like(maps.size)
    for name, some in {"DTV": maps, "DTV, one weight": replace(maps, size=level)}.items():
        energy = bl.Variational(data, some.regulariser(SMOOTHING).double())
        for way, rule in {"best weight": oracle, "discrepancy": noise}.items():
            found[f"{name}, {way}"] = chosen_by(energy, y, rule)
    return {name: Quality.of(x, truth, y) for name, x in found.items()}


def differences(found: list[dict[str, Quality]]) -> list[list[str]]:
    """A line a way, all against the best TV."""
    lines = []
    for name in found[0]:
        own = torch.tensor([[q[name].isnr, q[name].ssim] for q in found]).double()
        gain = own - torch.tensor([[q[BEST].isnr, q[BEST].ssim] for q in found]).double()
        mean, deviation = gain.mean(0), gain.std(0, correction=int(len(found) > 1))
        lines.append(
            [
                name,
                f"{float(own[:, 0].mean()):.2f}",
                f"{float(own[:, 1].mean()):.4f}",
                f"{float(mean[0]):+.2f} ({float(deviation[0]):.2f})",
                f"{float(gain[:, 0].min()):+.2f}",
                f"{int((gain[:, 0] > 0).sum())} of {len(found)}",
                f"{float(mean[1]):+.4f} ({float(deviation[1]):.4f})",
                f"{int((gain[:, 1] > 0).sum())} of {len(found)}",
            ]
        )
    return lines


def halves(folder: Path, name: str, size: int, count: int) -> tuple[Tensor, Tensor]:
    """Crops of the upper half to learn from, and of the lower half."""
    whole = picture(folder, name)
    middle = whole.shape[2] // 2
    upper, lower = whole[:, :, :middle], whole[:, :, middle:]
    parts = (bl.data.crops([(name, part)], size, count, seed=1)[0] for part in (upper, lower))
    first, second = parts
    return first, second


def begun(maps: bl.select.DirectionalMaps, weight: float) -> bl.regularisers.DirectionalTV:
    """The means of automatic maps, at every knot of 2 x 2."""
    turn, r = torch.deg2rad(2 * maps.angle), maps.anisotropy.log() / 2
    c, s = float((r * turn.cos()).mean()), float((r * turn.sin()).mean())
    size = (c**2 + s**2) ** 0.5
    angle, anisotropy = torch.rad2deg(torch.atan2(torch.tensor(s), torch.tensor(c)) / 2), 2 * size
    learn = ("weight", "exponent", "direction", "gain")
    return bl.regularisers.DirectionalTV(
        weight,
        SMOOTHING,
        float(maps.exponent.mean()),
        float(angle),
        float(torch.tensor(anisotropy).exp()),
        grid=(2, 2),
        scale=float(maps.size.log().mean().exp()),
        learn=learn,
    )


def learned(folder: Path, name: str, size: int, least: float, quick: bool) -> dict[str, float]:
    """Mean ISNR of denoising held-out crops of one picture, by way."""
    count, steps = (2, 5) if quick else (4, 25)
    seen, unseen = halves(folder, name, size, count)
    noise = bl.data.GaussianNoise(SIGMAS["denoising"])
    pairs, test = (
        bl.data.simulate(x, bl.operators.Identity(), noise, seed=k)
        for k, x in enumerate((seen, unseen))
    )
    sigma, data = SIGMAS["denoising"], fidelity("denoising")
    tv = bl.Variational(data, bl.regularisers.TotalVariation(1.0, SMOOTHING).double())
    choice = bl.select(tv, pairs.y, bl.rules.Discrepancy(sigma), accuracy=ACCURACY)
    weight = float(choice.weight.log().mean().exp())
    start = begun(bl.directional_maps(choice.x, exponents=(least, 2.0)), weight).double()
    tuned = bl.regularisers.TotalVariation(weight, SMOOTHING, learn=("weight",)).double()
    grown = bl.regularisers.TotalVariation(weight, SMOOTHING, grid=(2, 2), learn=("weight",))
    found: dict[str, float] = {}
    ways = {
        "TV, weight learned": (tuned, steps),
        "TV, 2 x 2 weights learned": (grown.double(), steps),
        "DTV, 2 x 2 maps learned": (start, steps),
    }
    for way, (term, most) in ways.items():
        energy = bl.Variational(fidelity("denoising"), term)
        problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        fit = bl.learn(problem, bl.algorithms.LBFGS(), budget=bl.Budget(steps=most))
        x = fit.reconstruct(test.y, bl.Tolerance(residual=1e-5)).x
        found[way] = mean_isnr(x, test.target, test.y)
    automatic = [reconstructions("denoising", t[None], d[None], least) for t, d in pairs_of(test)]
    for way in automatic[0]:
        found[way] = sum(q[way].isnr for q in automatic) / len(automatic)
    return found


def pairs_of(pairs: bl.data.Pairs) -> Iterator[tuple[Tensor, Tensor]]:
    """Truth and data of one image after another."""
    yield from zip(pairs.target, pairs.y, strict=True)


def mean_isnr(x: Tensor, truth: Tensor, y: Tensor) -> float:
    """[dB]."""
    rows = zip(x, truth, y, strict=True)
    return sum(Quality.of(a[None], t[None], d[None]).isnr for a, t, d in rows) / len(x)


def main() -> None:
    """Both tasks, then learning."""
    options = parser((__doc__ or "").split("\n")[0])
    options.add_argument("--size", type=int, default=128)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--least", type=float, default=1.0)
    options.add_argument("--quick", action="store_true")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    folder, size = data_folder(chosen), 48 if chosen.quick else chosen.size
    began, text, numbers = time.time(), "", {}
    for task, sigma in SIGMAS.items():
        found = []
        for name, truth in images(folder, size, chosen.quick).items():
            noise, forward = bl.data.GaussianNoise(sigma), fidelity(task).operator
            y = bl.data.simulate(truth, forward, noise, seed=chosen.seed).y
            found.append(reconstructions(task, truth, y, chosen.least))
            ways = {way: round(q.isnr, 2) for way, q in found[-1].items()}
            print(task, name, ways, round(time.time() - began), flush=True)
            numbers[f"{task}, {name}"] = {k: [q.isnr, q.ssim] for k, q in found[-1].items()}
        header = ["way", "ISNR [dB]", "SSIM", "gain in ISNR (deviation) [dB]", "least", "better"]
        header += ["gain in SSIM (deviation)", "better"]
        text += f"\n{task}, σ = {sigma:g}\n\n{table(header, differences(found))}\n"
    lines, names = [], TEXTURES[:1] if chosen.quick else TEXTURES
    for name in names:
        ways = learned(folder, name, 32 if chosen.quick else 64, chosen.least, chosen.quick)
        numbers[f"learned, {name}"] = ways
        lines.append([name, *(f"{value:.2f}" for value in ways.values())])
        print(name, ways, round(time.time() - began), flush=True)
    text += f"\nheld-out crops, ISNR [dB]\n\n{table(['picture', *ways], lines)}\n"
    usual = options.get_default("size")
    suffix = "_quick" if chosen.quick else "" if size == usual else f"_{size}"
    numbers |= {"size": size, "least": chosen.least, "seconds": time.time() - began}
    save(f"directional{suffix}", text, numbers)


if __name__ == "__main__":
    main()
