"""The handwritten digits of scikit-learn, split into training, validation and test samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator

__all__ = ["PIXELS", "Samples", "Split", "split", "with_noise"]

PIXELS = 64


@dataclass(frozen=True)
class Samples:
    """Features (n, d) and labels (n,); a linear classifier x has shape (d, 10)."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """How many."""
        return len(self.labels)

    def losses(self, x: Tensor, ids: Tensor) -> Tensor:
        """Cross-entropy of the samples ``ids``, (b,)."""
        return cross_entropy(self.features[ids] @ x, self.labels[ids], reduction="none")

    def loss(self, x: Tensor) -> float:
        """Mean cross-entropy of all samples."""
        return float(self.losses(x, torch.arange(len(self))).mean())

    def accuracy(self, x: Tensor) -> float:
        """Share of all samples that the classifier labels rightly, from 0 to 1."""
        return float(((self.features @ x).argmax(1) == self.labels).double().mean())


@dataclass(frozen=True)
class Split:
    """Disjoint samples: the lower level trains, the upper validates, the test judges."""

    training: Samples
    validation: Samples
    test: Samples


def split(training: int, validation: int, *, seed: int = 0) -> Split:
    """A random split of the 1797 digits (8 x 8, 64 features); what is left over is the test set.

    Pixels are centred by the mean of the training samples, and divided by 4 [grey levels].

    Raises:
        InputError: no sample left for the test.

    Example:
        >>> parts = split(400, 500)
        >>> len(parts.test), tuple(parts.test.features.shape)
        (897, (897, 64))
    """
    bunch = load_digits()
    count = len(bunch.target)
    if min(training, validation) < 1 or training + validation >= count:
        expected = f"training and validation samples must leave some of the {count} for the test"
        raise InputError(expected, given=(training, validation))
    order = torch.randperm(count, generator=generator(seed, "split"))
    pixels = torch.as_tensor(bunch.data, dtype=torch.float64)[order] / 4
    pixels = pixels - pixels[:training].mean(0)
    labels = torch.as_tensor(bunch.target, dtype=torch.long)[order]
    ends = [training, validation, count - training - validation]
    parts = zip(pixels.split(ends), labels.split(ends), strict=True)
    return Split(*(Samples(*part) for part in parts))


def with_noise(parts: Split, features: int, *, seed: int = 0) -> Split:
    """The same with so many columns of standard normal noise beside the pixels.

    Example:
        >>> tuple(with_noise(split(400, 500), 36).training.features.shape)
        (400, 100)
    """

    def widened(samples: Samples, name: str) -> Samples:
        random = generator(seed, "noise", name)
        noise = torch.randn(len(samples), features, generator=random, dtype=torch.float64)
        return Samples(torch.cat([samples.features, noise], 1), samples.labels)

    return Split(
        widened(parts.training, "training"),
        widened(parts.validation, "validation"),
        widened(parts.test, "test"),
    )
