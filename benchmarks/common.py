"""What the benchmarks share: where results go, and what the machine is."""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import torch

import bilevel as bl

RESULTS = Path(__file__).parent / "results"


def parser(description: str) -> argparse.ArgumentParser:
    """``--data DIR`` (or BILEVEL_DATA) for the larger image sets, ``--threads`` for torch."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--data", help="folder of the larger image sets")
    options.add_argument("--threads", type=int, default=2)
    return options


def arguments(description: str) -> argparse.Namespace:
    """What every benchmark takes; sets the threads."""
    chosen = parser(description).parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def data_folder(chosen: argparse.Namespace) -> Path:
    """The larger image sets; says so and stops where there are none."""
    folder = bl.data.find_data(chosen.data)
    if folder is None:
        raise SystemExit("skipped: give --data DIR or set BILEVEL_DATA to the larger image sets")
    return folder


def save(name: str, table: str, numbers: dict[str, Any]) -> None:
    """Print the table and keep it, with the numbers, in ``results``."""
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "matmul_gflops": round(matmul_rate()),
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**numbers, "machine": machine}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(table + "\n", encoding="utf-8")
    print(table)


def results(name: str) -> dict[str, Any]:
    """The numbers that ``save`` kept; none where it never did."""
    place = RESULTS / f"{name}.json"
    return json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}


def matmul_rate(size: int = 2048, repeats: int = 5) -> float:
    """Of float32, with the threads in use [GFLOP/s]: what seconds are to be read beside."""
    a = torch.rand(size, size)
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2e-9 * size**3 / best


def table(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
