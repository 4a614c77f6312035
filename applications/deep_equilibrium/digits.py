"""Train the classifier on scikit-learn's digits and print its held-out accuracy.

    python applications/deep_equilibrium/digits.py [--seeds 3]

The setting is the one that is best on a quarter of the training digits; the held-out ones are
looked at afterwards.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from deq_networks import Classifier
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional

from bilevel.ground.randomness import generator

__all__ = ["Setting", "accuracy", "best_setting", "held_back", "shifted", "split", "train"]

BATCH, CHANNELS = 64, 32
"""Images a step, and channels of z in what main trains."""


@dataclass(frozen=True)
class Setting:
    """How to train.

    Args:
        epochs: over the training digits.
        rate: of Adam at the start; it falls to zero as a cosine.
        decay: of the weights, decoupled.
        reach: the longest random shift of an image along each axis [pixel].
    """

    epochs: int = 30
    rate: float = 1e-2
    decay: float = 1e-2
    reach: int = 1


SETTINGS = [Setting(reach=0), Setting(reach=1)]


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


def shifted(images: Tensor, reach: int, source: torch.Generator) -> Tensor:
    """Each image (n, 1, h, w) moved by up to ``reach`` pixels along each axis, zeros coming in."""
    n, _, h, w = images.shape
    corners = torch.randint(2 * reach + 1, (n, 2, 1), generator=source)
    rows, columns = corners[:, 0] + torch.arange(h), corners[:, 1] + torch.arange(w)
    wide = functional.pad(images, [reach] * 4)[:, 0]
    return wide[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None]][:, None]


def best_setting(
    images: Tensor, labels: Tensor, settings: Sequence[Setting], channels: int = CHANNELS
) -> Setting:
    """The setting with the best accuracy on a quarter of these samples, trained on the others."""
    training, validation, classes, expected = held_back(images, labels)
    found: dict[Setting, float] = {}
    for setting in settings:
        torch.manual_seed(0)
        model = Classifier(channels)
        train(model, training, classes, setting)
        found[setting] = accuracy(model, validation, expected)
        print(f"{setting}: {100 * found[setting]:.2f} % of the validation part", flush=True)
    return max(found, key=lambda setting: found[setting])


def train(
    model: Classifier, images: Tensor, labels: Tensor, setting: Setting, seed: int = 0
) -> int:
    """Adam on the cross-entropy in small batches; how many rows failed forward or backward."""
    optimiser = torch.optim.AdamW(model.parameters(), setting.rate, weight_decay=setting.decay)
    steps = setting.epochs * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    failed = 0
    for epoch in range(setting.epochs):
        source = generator(seed, "epoch", epoch)
        for batch in torch.randperm(len(images), generator=source).split(BATCH):
            logits, found = model(shifted(images[batch], setting.reach, source))
            optimiser.zero_grad()
            functional.cross_entropy(logits, labels[batch]).backward()
            optimiser.step()
            schedule.step()
            failed += int((~found.solution.converged).sum())
            failed += sum(int((~adjoint.converged).sum()) for adjoint in found.adjoints)
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
    setting = best_setting(images, labels, SETTINGS)
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        model, begin = Classifier(CHANNELS), time.process_time()
        failed = train(model, images, labels, setting, seed)
        seconds = time.process_time() - begin
        with torch.no_grad():
            steps = model(held_out)[1].solution.steps.float().mean()
        test = 100 * accuracy(model, held_out, held_out_labels)
        own = 100 * accuracy(model, images, labels)
        print(f"seed {seed}: held-out accuracy {test:.2f} %, training accuracy {own:.2f} %,")
        print(f"  {seconds:.0f} s, {failed} rows not converged,", end=" ")
        print(f"{steps:.1f} forward steps at the end", flush=True)


if __name__ == "__main__":
    main()
