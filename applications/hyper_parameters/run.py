"""All three applications: prints the figures of the README and draws weights.png.

    python applications/hyper_parameters/run.py [--seeds 5] [--out FOLDER]

Test samples judge; every θ is learned or chosen by validation samples.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

import bilevel as bl  # noqa: E402
from hyper_parameters import cleaning, feature_weights  # noqa: E402
from hyper_parameters.digits import PIXELS, Split, split, with_noise  # noqa: E402
from hyper_parameters.figures import draw_weights  # noqa: E402
from hyper_parameters.ridge import diabetes  # noqa: E402

TIGHT = 1e-9


def ridge() -> None:
    """The learned weight against the root of the derivative in closed form."""
    data = diabetes()
    best = data.best()
    print(f"ridge: best log-weight {best:.9f}, validation loss {data.loss(best):.9f}")
    algorithms = {
        "MAID": bl.algorithms.MAID(tol=TIGHT, accuracy=bl.Accuracy(floor=1e-11)),
        "accelerated MAID": bl.algorithms.MAID(
            accelerated=True, tol=TIGHT, accuracy=bl.Accuracy(floor=1e-11)
        ),
        "L-BFGS": bl.algorithms.LBFGS(tol=TIGHT, accuracy=bl.Accuracy(1e-6, 1e-11)),
    }
    for name, algorithm in algorithms.items():
        fit = bl.learn(data.problem(), algorithm, budget=bl.Budget(steps=200))
        found = float(fit.theta["log_weight"])
        print(
            f"  {name}: log-weight off by {abs(found - best):.1e}, "
            f"loss by {abs(data.loss(found) - data.loss(best)):.1e}, "
            f"{len(fit.history) - 1} steps, {fit.cost.seconds:.1f} s"
        )


def features(seeds: int, folder: Path) -> None:
    """One weight for each feature against the best weight in common."""
    print("features: validation loss, test loss, test accuracy")
    for seed in range(seeds):
        parts = with_noise(split(200, 800, seed=seed), 36, seed=seed)
        single = feature_weights.search(parts)
        judge(f"seed {seed}, one weight, best of {len(single.losses)}", parts, single.x)
        start = time.perf_counter()
        problem = feature_weights.problem_of(parts, torch.full((100,), -4.0, dtype=torch.float64))
        algorithm = bl.algorithms.MAID(accelerated=True)
        fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=30))
        x = problem.x(fit.theta, tol=1e-4)
        label = f"seed {seed}, 100 weights, {time.perf_counter() - start:.1f} s"
        judge(label, parts, x)
        if seed == 0:
            draw_weights(fit.theta["log_weights"], picture(parts), folder / "weights.png")
        weights = fit.theta["log_weights"].exp()
        pixels, noise = weights[:PIXELS].median(), weights[PIXELS:].median()
        print(f"    median weight of pixels {pixels:.1e}, of noise {noise:.1e}")


def picture(parts: Split) -> Tensor:
    """How much each pixel varies in the training set, (64,)."""
    return parts.training.features[:, :PIXELS].std(0)


def clean(seeds: int) -> None:
    """Learned sample weights against training on right labels, on all, on the validation set.

    Each with the ridge, of 0.01, 0.03 and 0.1, that was best in cross-validation on the validation
    samples.
    """
    print("cleaning: validation loss, test loss, test accuracy")
    for seed in range(seeds):
        dirty = cleaning.corrupt(split(1100, 200, seed=seed), 0.5, seed=seed)
        parts = dirty.parts
        judge(f"seed {seed}, right labels only", parts, cleaning.trained(dirty.clean, parts))
        judge(f"seed {seed}, all labels", parts, cleaning.trained(parts.training, parts, ridge=0.1))
        judge(f"seed {seed}, validation set", parts, cleaning.trained(parts.validation, parts))
        for name, algorithm in cleaners().items():
            problem = cleaning.problem_of(parts)
            fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=80))
            label = f"seed {seed}, {name}, {fit.cost.seconds:.1f} s"
            judge(label, parts, problem.x(fit.theta, tol=1e-4))
            weights = fit.theta["logits"].sigmoid()
            right, wrong = weights[~dirty.wrong].mean(), weights[dirty.wrong].mean()
            print(f"    mean weight of right labels {right:.2f}, of wrong {wrong:.2f}")


def cleaners() -> dict[str, Any]:
    """What learns the sample weights."""
    return {
        "SABA": bl.algorithms.SABA(batch_size=30, first_change=3.0),
        "accelerated MAID": bl.algorithms.MAID(accelerated=True),
    }


def judge(label: str, parts: Split, x: Tensor) -> None:
    """One line of the tables."""
    validation, test = parts.validation.loss(x), parts.test.loss(x)
    print(f"  {label}: {validation:.3f}, {test:.3f}, {parts.test.accuracy(x):.4f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="random splits")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of weights.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ridge()
    features(options.seeds, options.out)
    clean(options.seeds)
