"""A weight without the truth where x may not be negative, and for exact total variation.

    python benchmarks/selection_positive.py --data DIR [--size N] [--parts counts,exact]

Counts: 12 scenes of fluorescence as in microscopy.py, dark between the cells, each of another
seed, blurred by a Gaussian of 1.5 pixels, 20, 60 and 200 photons at grey value 1 (--peaks) on a
background of 0.02. The weight of TV(smoothing 0.01) is chosen by PURE, with positivity and without;
beside the best weights, and MLEM (Richardson and Lucy, the same operator and background) at its
best stop, found with the truth. Gains are paired: mean over the images and standard error.

Exact: 12 crops of BSD68, denoising at three levels; what SURE with 8 probes loses against the
oracle. One results file a part.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import data_folder, parser, save, table
from microscopy import MARGIN, PAGES, scene
from torch import Tensor

import bilevel as bl
from bilevel.select import Choice, Rule
from bilevel.select.degrees import Degrees

BLUR, BACKGROUND, SMOOTHING = 1.5, 0.02, 0.01
SIGMAS = (0.05, 0.1, 0.2)
PROBES = 8
"""Of the degrees of freedom: one tells them to √(2 df), and exact total variation has few."""
LONGEST = 3000
"""Steps of MLEM at most; the best stop is far before."""


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Of every image, peak 1 [dB]."""
    return -10 * (x - truth).double().square().flatten(1).mean(1).log10()


def spread(gain: Tensor) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(gain.mean()), float(gain.std()) / len(gain) ** 0.5


def scenes(size: int, count: int) -> Tensor:
    """The middle page of each, (count, 1, size, size); 350 photons there are grey value 1 here."""
    pages = [scene(seed, size)[PAGES // 2] / 350 for seed in range(count)]
    inner = slice(MARGIN, -MARGIN)
    return torch.stack([page[inner, inner] for page in pages])[:, None].float()


def crops(folder: Path, size: int, count: int) -> Tensor:
    """From the first files, one each."""
    files = sorted((folder / "bsd68").glob("*.png"))[:count]
    images = [(file.name, bl.data.load_image(file, grey=True)) for file in files]
    return bl.data.crops(images, size, count, seed=0)[0]


def mlem(forward: bl.operators.Operator, y: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The best PSNR of every image on the way, and the step that reached it."""
    z = (y + BACKGROUND).clamp_min(0.0)
    ones = forward.adjoint(torch.ones_like(y)).clamp_min(1e-6)
    x = torch.full_like(truth, float(z.mean()))
    best, stop = psnr(x, truth), torch.zeros(len(y))
    for step in range(1, LONGEST + 1):
        x = x / ones * forward.adjoint(z / (forward(x) + BACKGROUND))
        found = psnr(x, truth)
        stop = torch.where(found > best, step, stop)
        best = torch.maximum(best, found)
        if step > 2 * int(stop.max()) + 50:
            break
    return best, stop


def of_counts(x: Tensor, peak: float) -> dict[str, dict[str, object]]:
    """PSNR of each way, and what positivity gains over the others."""
    forward = bl.operators.GaussianBlur(BLUR, 13, boundary="reflecting")
    y = bl.data.simulate(x, forward, bl.data.PoissonNoise(peak, BACKGROUND), seed=0).y
    fidelity = bl.fidelities.KullbackLeibler(forward, background=BACKGROUND)
    tv = bl.regularisers.TotalVariation(1.0, SMOOTHING)
    energies = {
        "with positivity": bl.Variational(fidelity, tv + bl.regularisers.Box(0.0)),
        "without": bl.Variational(fidelity, tv),
    }
    rules: dict[str, Rule] = {
        "PURE": bl.rules.PURE(peak),
        "oracle": bl.rules.Oracle(x),
    }
    reached: dict[str, Tensor] = {}
    answers: dict[str, Choice] = {}
    for kind, energy in energies.items():
        for name, rule in rules.items():
            choice = bl.select(energy, y, rule)
            reached[f"{name}, {kind}"], answers[f"{name}, {kind}"] = psnr(choice.x, x), choice
            print(
                f"  {name}, {kind}: {spread(reached[f'{name}, {kind}'])}", choice.cost, flush=True
            )
    best, stop = mlem(forward, y, x)
    reached[f"MLEM, best of steps {int(stop.min())} to {int(stop.max())}"] = best
    chosen = reached["PURE, with positivity"]
    found: dict[str, dict[str, object]] = {}
    for name, value in reached.items():
        gain, error = spread(chosen - value)
        one: dict[str, object] = {"psnr": float(value.mean()), "behind": gain, "error": error}
        if name in answers:
            one["unanswered"] = int((~answers[name].found).sum())
            one["gradients"] = answers[name].cost.gradient_evaluations / len(y)
        found[name] = one
    return found


def of_exact(x: Tensor, sigma: float) -> dict[str, object]:
    """What SURE loses against the best weight of exact total variation."""
    y = bl.data.simulate(x, bl.operators.Identity(), bl.data.GaussianNoise(sigma), seed=0).y
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.ExactTotalVariation(1.0))
    sure, oracle = bl.rules.SURE(sigma, Degrees(probes=PROBES)), bl.rules.Oracle(x)
    chosen, best = (bl.select(energy, y, rule) for rule in (sure, oracle))
    loss, error = spread(psnr(best.x, x) - psnr(chosen.x, x))
    return {
        "oracle": float(psnr(best.x, x).mean()),
        "loss": loss,
        "error": error,
        "worst": float((psnr(best.x, x) - psnr(chosen.x, x)).max()),
        "unanswered": int((~chosen.found).sum()),
        "gradients": chosen.cost.gradient_evaluations / len(y),
        "products": chosen.cost.hvps / len(y),
    }


def main() -> None:
    """Two tables."""
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=96)
    options.add_argument("--count", type=int, default=12)
    options.add_argument("--parts", default="counts,exact")
    options.add_argument("--peaks", default="20,60,200")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    folder = data_folder(chosen)
    if "counts" in chosen.parts:
        x = scenes(chosen.size, chosen.count)
        by = {peak: of_counts(x, peak) for peak in map(float, chosen.peaks.split(","))}
        save("selection_positive_counts", counted(by), {"size": chosen.size, "counts": by})
    if "exact" in chosen.parts:
        x = crops(folder, chosen.size, chosen.count)
        exact = {sigma: of_exact(x, sigma) for sigma in SIGMAS}
        save("selection_positive_exact", denoised(exact), {"size": chosen.size, "exact": exact})


def counted(by: dict[float, dict[str, dict[str, object]]]) -> str:
    """PSNR, and how far behind PURE with positivity, with the standard error."""
    lines: list[list[str]] = []
    for peak, found in by.items():
        for name, one in found.items():
            behind = "" if one["behind"] == 0 else f"{one['behind']:.2f} ({one['error']:.2f})"
            lines.append([f"{peak:g}", name, f"{one['psnr']:.2f}", behind])
    head = ["photons", "way", "mean PSNR [dB]", "behind PURE with positivity (standard error) [dB]"]
    return f"\nCounts, blurred\n\n{table(head, lines)}\n"


def denoised(found: dict[float, dict[str, object]]) -> str:
    """One line a level."""
    lines = [
        [
            f"{sigma:g}",
            f"{one['oracle']:.2f}",
            f"{one['loss']:.3f} ({one['error']:.3f})",
            f"{one['worst']:.3f}",
            f"{one['unanswered']}",
            f"{one['gradients']:.0f} + {one['products']:.0f}",
        ]
        for sigma, one in found.items()
    ]
    head = [
        "σ",
        "oracle [dB]",
        "SURE loses (standard error) [dB]",
        "at most [dB]",
        "without answer",
        "gradients + products an image",
    ]
    return f"\nExact total variation, denoising\n\n{table(head, lines)}\n"


if __name__ == "__main__":
    main()
