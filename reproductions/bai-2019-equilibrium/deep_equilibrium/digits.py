"""Training of the classifier on scikit-learn's digits.

The setting is the one that is best on a quarter of the training digits; the held-out ones are
looked at afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional

from bilevel.ground.randomness import generator
from deep_equilibrium.networks import Classifier

__all__ = ["Setting", "accuracy", "held_back", "shifted", "split", "train", "validated"]

BATCH, CHANNELS = 64, 32
"""Images a step, and channels of z in what is trained."""


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


def validated(
    images: Tensor, labels: Tensor, settings: Sequence[Setting], channels: int = CHANNELS
) -> dict[Setting, float]:
    """Accuracy of each setting on a quarter of these samples, trained on the others."""
    training, validation, classes, expected = held_back(images, labels)
    found: dict[Setting, float] = {}
    for setting in settings:
        torch.manual_seed(0)
        model = Classifier(channels)
        train(model, training, classes, setting)
        found[setting] = accuracy(model, validation, expected)
    return found


def train(
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    setting: Setting,
    seed: int = 0,
    told: Callable[[float], None] = lambda done: None,
) -> int:
    """Adam on the cross-entropy in small batches; how many rows failed forward or backward."""
    optimiser = torch.optim.AdamW(model.parameters(), setting.rate, weight_decay=setting.decay)
    steps = setting.epochs * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    failed = 0
    for epoch in range(setting.epochs):
        told(epoch / setting.epochs)
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
