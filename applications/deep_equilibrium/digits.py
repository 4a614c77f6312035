"""Train the classifier on scikit-learn's digits and print its held-out accuracy."""

from __future__ import annotations

import argparse
import time

import torch
from deq_networks import Classifier
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional

from bilevel.ground.randomness import generator

__all__ = ["accuracy", "split", "train"]


def split(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images to train on and held out, (n, 1, 8, 8) in [0, 1], then their labels (n,).

    A quarter of the 1797 digits is held out, with the same share of every class.
    """
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(labels)
    train, test = train_test_split(
        range(len(y)), test_size=0.25, stratify=labels, random_state=seed
    )
    return x[train], x[test], y[train], y[test]


def train(model: Classifier, images: Tensor, labels: Tensor, *, epochs: int, seed: int = 0) -> int:
    """Adam on the cross-entropy in batches of 64; how many rows failed forward or backward."""
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
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
    """Train with one seed and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images, held_out, labels, held_out_labels = split()
    model, begin = Classifier(), time.perf_counter()
    failed = train(model, images, labels, epochs=options.epochs, seed=options.seed)
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        steps = model(held_out)[1].solution.steps.float().mean()
    print(f"held-out accuracy {100 * accuracy(model, held_out, held_out_labels):.2f} %")
    print(f"training accuracy {100 * accuracy(model, images, labels):.2f} %")
    print(f"{seconds:.0f} s, {failed} rows not converged, {steps:.1f} forward steps at the end")


if __name__ == "__main__":
    main()
