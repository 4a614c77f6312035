"""How far a learned total variation is from the best weight and smoothing of a dense search.

    python benchmarks/dense_search.py CONFIG.toml FIT_DIR [--data DIR]

Searches the training images themselves: first a grid of factor 2 around the fit, over the
admissible smoothing, then one of factor 2^(1/4) around its best point. Lower levels are solved to
rms 1e-4 or, where no distance is proved, to residual 2e-6.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import save, table

import bilevel as bl
from bilevel.cli.config import read
from bilevel.cli.learning import build_problem
from bilevel.cli.measured import learning_images


def main() -> None:
    """Print and keep the best of the search beside the fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("fit", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    document = read(chosen.config)
    images = learning_images(document, chosen.data)
    problem = build_problem(document.configuration, images.training)
    fit = bl.load(chosen.fit)
    names = sorted(fit.theta, reverse=True)
    learned = [float(fit.theta[name]) for name in names]

    bounds = problem.bounds
    tol = 1e-4 if float(bounds.proved_mu().min()) > 0 else 2e-6

    def psnr(point: tuple[float, ...]) -> float:
        theta = {n: torch.tensor(v).to(fit.theta[n]) for n, v in zip(names, point, strict=True)}
        admissible = problem.space.project(theta)
        if any(abs(float(admissible[n] - theta[n])) > 1e-6 for n in names):
            return -math.inf
        values = problem.values(theta, tol=tol)
        return float(-10 * values.mean().log10())

    def around(centre: list[float], step: float, count: int) -> list[tuple[float, ...]]:
        shifts = [k * math.log(2) * step for k in range(-count, count + 1)]
        return list(itertools.product(*[[c + s for s in shifts] for c in centre]))

    here = psnr(tuple(learned))
    coarse = {p: psnr(p) for p in around(learned, 1.0, 2)}
    best = max(coarse, key=lambda p: coarse[p])
    fine = {p: psnr(p) for p in around(list(best), 0.25, 2)}
    top = max(fine, key=lambda p: fine[p])
    best_psnr = max(fine[top], coarse[best], here)
    lines = [
        ["learned", *[f"{math.exp(v):.5f}" for v in learned], f"{here:.4f}"],
        ["dense search", *[f"{math.exp(v):.5f}" for v in top], f"{best_psnr:.4f}"],
    ]
    header = ["", *[n.split("log_")[-1] for n in names], "PSNR of the mean error [dB]"]
    short = best_psnr - here
    text = f"{table(header, lines)}\n\nThe fit falls short of the search by {short:.4f} dB."
    save(f"dense_search_{chosen.config.stem}", text, {"short_by_db": short, "psnr": here})


if __name__ == "__main__":
    main()
