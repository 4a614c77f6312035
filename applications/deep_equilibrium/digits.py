"""Train the classifier on scikit-learn's digits and print its held-out accuracy.

    python applications/deep_equilibrium/digits.py [--seeds 3]

Rate and epochs are those that are best on a quarter of the training digits; the held-out ones are
looked at afterwards.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from deq_networks import Classifier
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional

from bilevel.ground.randomness import generator

__all__ = ["accuracy", "best_setting", "held_back", "split", "train"]

Setting = tuple[float, int]
"""Rate of Adam and epochs."""
SETTINGS: list[Setting] = [(rate, epochs) for rate in (3e-3, 1e-2) for epochs in (20, 40)]


Parts = tuple[Tensor, Tensor, Tensor, Tensor]
"""Images to train on and held out, (n, 1, 8, 8) in [0, 1], then their labels (n,)."""


def split(seed: int = 0) -> Parts:
    """A quarter of the 1797 digits is held out, with the same share of every class."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    return held_back(x, torch.tensor(labels), seed)


def held_back(images: Tensor, labels: Tensor, seed: int = 0) -> Parts:
    """All but a quarter, and that quarter, with the same share of every class."""
    train, rest = train_test_split(
        range(len(labels)), test_size=0.25, stratify=labels, random_state=seed
    )
    return images[train], images[rest], labels[train], labels[rest]


def best_setting(images: Tensor, labels: Tensor, settings: Sequence[Setting] = SETTINGS) -> Setting:
    """The setting with the best accuracy on a quarter of these samples, trained on the others."""
    training, validation, classes, expected = held_back(images, labels)
    found: dict[Setting, float] = {}
    for rate, epochs in settings:
        torch.manual_seed(0)
        model = Classifier()
        train(model, training, classes, epochs=epochs, rate=rate)
        found[rate, epochs] = accuracy(model, validation, expected)
        share = 100 * found[rate, epochs]
        print(f"rate {rate}, {epochs} epochs: {share:.2f} % of the validation part", flush=True)
    return max(found, key=lambda setting: found[setting])


def train(
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    rate: float = 1e-2,
    seed: int = 0,
) -> int:
    """Adam on the cross-entropy in batches of 64; how many rows failed forward or backward."""
    optimiser = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    failed = 0
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator(seed, "epoch", epoch))
        for batch in order.split(64):
            logits, found = model(images[batch])
            optimiser.zero_grad()
            functional.cross_entropy(logits, labels[batch]).backward()
            optimiser.step()
            failed += int((~found.solution.converged).sum())
            failed += sum(int((~adjoint.converged).sum()) for adjoint in found.adjoints)
        schedule.step()
    return failed


@torch.no_grad()
def accuracy(model: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of images whose label has the largest logit."""
    return float((model(images)[0].argmax(1) == labels).float().mean())


def main() -> None:
    """Choose the setting, train with every seed and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, held_out, labels, held_out_labels = split()
    rate, epochs = best_setting(images, labels)
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        model, begin = Classifier(), time.process_time()
        failed = train(model, images, labels, epochs=epochs, rate=rate, seed=seed)
        seconds = time.process_time() - begin
        with torch.no_grad():
            steps = model(held_out)[1].solution.steps.float().mean()
        test = 100 * accuracy(model, held_out, held_out_labels)
        own = 100 * accuracy(model, images, labels)
        print(f"seed {seed}: held-out accuracy {test:.2f} %, training accuracy {own:.2f} %,")
        print(
            f"  {seconds:.0f} s, {failed} rows not converged, {steps:.1f} forward steps at the end"
        )


if __name__ == "__main__":
    main()
