"""Magnetic resonance with four coils: total variation and experts.

    python benchmarks/mri.py --data DIR [--work FOLDER] [--half]

Slices of `mri_brain` are made complex by smooth phases and written to disk. From 16 slices of one
person a quarter of the lines is kept, noise 0.01: total variation with coupled channels and a field
of experts are learned with the configurations beside this file, and used on other slices. The
learned weight stands beside the best of a dense search. Nothing follows for other people. PSNR is
of complex errors, the largest modulus of a slice being white.
With `--half` slices have half the resolution, a quarter of the pixels.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "reproductions"))

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
from magnetic import complex_image, complex_psnr

HERE = Path(__file__).parent
LEARNED, HELD = 16, 8


def complex_slice(path: Path, half: bool) -> Tensor:
    """A slice with a smooth phase of its own, (1, 2, h, w)."""
    x = bl.data.load_image(path, grey=True)
    return complex_image(bl.operators.Downsampling(2)(x) if half else x, path.name)


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


def held_out(work: Path, fit: Path) -> tuple[Tensor, Tensor]:
    """PSNR of zero-filled and learned reconstructions of the held-out slices."""
    loaded = Reconstructor.load(fit, None)
    paths = sorted((work / "held").glob("*.npy"))
    (batch,) = by_size((p.name, bl.data.load_image(p)) for p in paths)
    samples = loaded.samples(simulated(loaded.configuration, batch), lambda count: None)
    return complex_psnr(samples.before, samples.target), complex_psnr(samples.after, samples.target)


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


def main() -> None:
    """Learn, and write what came out."""
    options = parser(__doc__ or "")
    options.add_argument("--work", type=Path, help="where slices and fits are written")
    options.add_argument("--half", action="store_true", help="half the resolution")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    source = data_folder(chosen) / "mri_brain"
    with tempfile.TemporaryDirectory() as folder:
        work = chosen.work or Path(folder)
        save("mri_half" if chosen.half else "mri", *reconstruction(source, work, chosen.half))


if __name__ == "__main__":
    main()
