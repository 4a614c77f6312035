"""A batch of photographs on the command line, against Python image by image and scikit-image.

    python benchmarks/batch.py --data DIR [--photographs N] [--rounds R] [--experts N] [--runs DIR]

Photographs of 2000x1500, unless --height and --width say otherwise, are tiled from the pictures of
the pack, with noise 25/255, in files of 8 bits. Each round takes some of them, first from Python
(loaded before, the solve alone), then on the command line (reading, solving, writing), and the
other way round in the next. Both compile what is worth it from the start; the first image of each
is left out, as it pays for that and for the start. Memory is the peak of the command after 5 images
and after all. Learned experts are held against their passes (gradients of J) times the time of one.
scikit-image is timed at the gap to the minimum that exact total variation has where its distance is
certified to the same 1e-3.

Fits are taken from `DIR/tv` and `DIR/foe` of --runs, or learned (--seconds each).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import exact_tv
import torch
from common import data_folder, parser, save, table
from speed import milliseconds
from torch import Tensor

import bilevel as bl
from bilevel.ground.memory import keep_freed_memory
from bilevel.ground.randomness import generator

NOISE, ACCURACY = 25 / 255, 1e-3
HERE = Path(__file__).parent
EARLY = 5
"""Images after which memory is looked at first."""


@dataclass(frozen=True)
class Run:
    """One run of the command: seconds of each image but the first, its lines, memory [MiB]."""

    seconds: list[float]
    whole: float
    lines: list[dict[str, Any]]
    early: float
    peak: float


def main() -> None:
    """All measurements, one table."""
    chosen = options()
    os.environ["BILEVEL_COMPILE"] = "always"
    keep_freed_memory()
    folder = data_folder(chosen)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        runs = fits(folder, chosen, work)
        count = max(chosen.photographs, chosen.experts)
        size = chosen.height, chosen.width
        photographs = tiled(folder / "bsd68", count, work / "in", size)
        lines, numbers = total_variation(
            runs["tv"], photographs[: chosen.photographs], chosen, work
        )
        for measured in (
            lambda: experts(runs["foe"], photographs[: chosen.experts], chosen, work),
            lambda: exact(photographs[0]),
        ):
            more, found = measured()
            lines, numbers = lines + more, {**numbers, **found}
    header = ["what", "an image: median (least to most)"]
    size = f"{chosen.width}x{chosen.height}"
    about = f"{size}, {chosen.photographs} photographs in {chosen.rounds} rounds."
    save("batch", f"{about}\n\n{table(header, lines)}", numbers)


def options() -> argparse.Namespace:
    """Numbers of photographs and where fits are."""
    found = parser(__doc__ or "")
    found.add_argument("--photographs", type=int, default=30)
    found.add_argument("--height", type=int, default=1500)
    found.add_argument("--width", type=int, default=2000)
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--experts", type=int, default=2, help="photographs for the experts")
    found.add_argument("--runs", type=Path, help="folder with the fits tv and foe")
    found.add_argument("--seconds", type=float, default=90.0, help="to learn each fit")
    chosen = found.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def fits(folder: Path, chosen: argparse.Namespace, work: Path) -> dict[str, Path]:
    """Learned total variation and learned experts."""
    found: dict[str, Path] = {}
    for name, source in (("tv", "tv_denoising.toml"), ("foe", "fields_of_experts.toml")):
        given = None if chosen.runs is None else chosen.runs / name
        if given is not None and given.is_dir():
            found[name] = given
            continue
        text = (HERE / source).read_text(encoding="utf-8")
        budget = next(line for line in text.splitlines() if line.startswith("seconds = "))
        config = work / source
        config.write_text(text.replace(budget, f"seconds = {chosen.seconds}"), encoding="utf-8")
        found[name] = work / name if given is None else given
        command("learn", config, "--data", folder, "--out", found[name], threads=chosen.threads)
    return found


def tiled(folder: Path, count: int, out: Path, size: tuple[int, int]) -> list[Path]:
    """Photographs made of the pictures in ``folder``, with noise, in files of 8 bits."""
    out.mkdir()
    height, width = size
    pictures = [x if x.shape[2] < x.shape[3] else x.mT for _, x in bl.data.load_images(folder)]
    rows, columns = -(-height // pictures[0].shape[2]), -(-width // pictures[0].shape[3])
    found: list[Path] = []
    for k in range(count):
        order = torch.randperm(len(pictures), generator=generator(k, "tiles")).tolist()
        tiles = [pictures[order[i % len(order)]] for i in range(rows * columns)]
        lines = [torch.cat(tiles[r * columns : (r + 1) * columns], 3) for r in range(rows)]
        sharp = torch.cat(lines, 2)[..., :height, :width]
        noise = torch.randn(sharp.shape, generator=generator(k, "noise of the photograph"))
        found.append(out / f"photograph{k:03d}.png")
        bl.data.save_image(found[-1], (sharp + NOISE * noise).clamp(0, 1), bits=8)
    return found


def total_variation(
    fit: Path, photographs: Sequence[Path], chosen: argparse.Namespace, work: Path
) -> tuple[list[list[str]], dict[str, Any]]:
    """The command line against Python, in turn."""
    share = len(photographs) // chosen.rounds
    if share < 2:
        raise SystemExit("a round takes at least 2 photographs: ask for more of them")
    python: list[float] = []
    commands: list[Run] = []
    ratios: list[float] = []
    for k in range(chosen.rounds):
        part = photographs[k * share : (k + 1) * share]
        both = [
            lambda part=part: python.extend(in_python(fit, part)),
            lambda part=part, k=k: commands.append(
                on_command_line(fit, part, work / f"tv{k}", chosen.threads)
            ),
        ]
        for measure in both[:: 1 if k % 2 == 0 else -1]:
            measure()
        ratios.append(
            statistics.median(commands[-1].seconds) / statistics.median(python[1 - share :])
        )
    seconds = [one for run in commands for one in run.seconds]
    whole = on_command_line(fit, photographs, work / "all", chosen.threads)
    missed = [line for run in (*commands, whole) for line in run.lines if not line["answered"]]
    if missed:
        raise SystemExit(f"{len(missed)} photographs missed the accuracy")
    lines = [
        ["learned TV to a certified 1e-3, Python [s]", spread(python)],
        ["the same, command line [s]", spread(seconds)],
        ["command line / Python", spread(ratios)],
        [f"command line, {len(photographs)} photographs with its start [s]", f"{whole.whole:.3g}"],
        [f"peak memory after {EARLY} images [MiB]", f"{whole.early:.0f}"],
        [f"peak memory after {len(photographs)} [MiB]", f"{whole.peak:.0f}"],
    ]
    numbers = {
        "python_seconds": python,
        "command_seconds": seconds,
        "ratios": ratios,
        "whole_seconds_an_image": whole.whole,
        "memory": {"early": whole.early, "all": whole.peak, "photographs": len(photographs)},
        "worst_certificate": max(line["certificate"]["rms"] for line in whole.lines),
    }
    return lines, numbers


def experts(
    fit: Path, photographs: Sequence[Path], chosen: argparse.Namespace, work: Path
) -> tuple[list[list[str]], dict[str, Any]]:
    """What an image takes on the command line, over its passes times the time of a pass."""
    if not photographs:
        return [], {}
    y = bl.data.load_image(photographs[0])
    objective = bl.load(fit).energy.at(y)
    assert isinstance(objective, bl.model.SmoothObjective)
    with torch.no_grad():
        passed = milliseconds(lambda: objective.grad(y), 5.0)
    run = on_command_line(fit, photographs, work / "foe", chosen.threads)
    costs = [line["cost"] for line in run.lines]
    costs = costs[1:] or costs  # the first pays for what is compiled
    ratios = [cost["seconds"] / (1e-3 * passed[0] * cost["gradient_evaluations"]) for cost in costs]
    passes = [cost["gradient_evaluations"] for cost in costs]
    lines = [
        ["learned experts, a pass [s]", spread([1e-3 * one for one in passed])],
        ["passes", spread(passes)],
        ["command line [s]", spread([cost["seconds"] for cost in costs])],
        ["command line / (passes x time of a pass)", spread(ratios)],
    ]
    return lines, {"experts": {"pass_ms": passed, "passes": passes, "ratios": ratios}}


def exact(photograph: Path) -> tuple[list[list[str]], dict[str, Any]]:
    """Exact total variation to a certified distance, and scikit-image at the gap that this has."""
    y = bl.data.load_image(photograph)
    best = lower_bound(y.double())
    problem = exact_tv.objective(y, isotropic=True)
    tol = bl.Tolerance(rms=ACCURACY)
    solve = lambda: bl.minimise(problem, bl.solvers.PDHG(), tol=tol).require()  # noqa: E731
    gap = exact_tv.value(solve().x, y, isotropic=True) / best - 1
    ours = [timed(solve) for _ in range(3)]
    lines = [[f"exact TV to a certified 1e-3 (relative gap {gap:.1e}), Python [s]", spread(ours)]]
    numbers: dict[str, Any] = {"exact": {"gap": gap, "pdhg_seconds": ours}}
    theirs = exact_tv.others(y, True, set()).get("scikit-image")
    if theirs is not None:
        steps = 10
        while exact_tv.value(theirs(steps), y, isotropic=True) / best - 1 > gap:
            steps = round(1.4 * steps)
        seconds = [timed(lambda: theirs(steps)) for _ in range(3)]
        lines.append([f"scikit-image, {steps} steps, to that gap [s]", spread(seconds)])
        numbers["exact"]["scikit_image"] = {"steps": steps, "seconds": seconds}
    return lines, numbers


def lower_bound(y: Tensor) -> float:
    """Of the minimum of exact total variation, within a relative 1e-6."""
    problem = exact_tv.objective(y, isotropic=True)
    tol = bl.Tolerance(gap=1e-6 * exact_tv.value(y, y, isotropic=True))
    solution = bl.minimise(problem, bl.solvers.PDHG(), tol=tol, max_steps=100_000).require()
    return exact_tv.value(solution.x, y, isotropic=True) - float(solution.certificate.gap)


def in_python(fit: Path, photographs: Sequence[Path]) -> list[float]:
    """Seconds of each solve but the first."""
    learned, tol = bl.load(fit), bl.Tolerance(rms=ACCURACY)
    images = [bl.data.load_image(path) for path in photographs]
    return [timed(lambda y=y: learned.reconstruct(y, tol).require()) for y in images][1:]


def timed(work: Any) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def on_command_line(fit: Path, photographs: Sequence[Path], out: Path, threads: int) -> Run:
    """``bilevel reconstruct`` in a fresh process, each line taken down when it comes."""
    arguments = ["reconstruct", fit, *photographs, "--out", out, "--json", "--quiet"]
    arguments += ["--accuracy", ACCURACY, "--threads", threads]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "bilevel", *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    at: list[float] = []
    memory: list[float] = []
    for text in process.stdout:
        at.append(time.perf_counter())
        memory.append(peak(process.pid))
        lines.append(json.loads(text))
    if process.wait() not in (0, 3) or len(lines) != len(photographs):
        raise SystemExit(f"the command ended with {process.returncode} after {len(lines)} images")
    seconds = [later - before for before, later in itertools.pairwise(at)]
    whole = (time.perf_counter() - start) / len(photographs)
    return Run(seconds, whole, lines, memory[min(EARLY, len(memory)) - 1], memory[-1])


def peak(pid: int) -> float:
    """The most that a process had in memory [MiB]; nan where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    found = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(found.split()[1]) / 1024


def command(*arguments: object, threads: int) -> None:
    """Another command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "BILEVEL_COMPILE": "auto"}
    words = [sys.executable, "-m", "bilevel", *map(str, arguments)]
    if subprocess.run(words, env=environment, check=False).returncode not in (0, 3):
        raise SystemExit(f"failed: {' '.join(words)}")


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
