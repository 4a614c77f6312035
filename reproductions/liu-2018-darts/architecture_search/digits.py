"""Handwritten digits of 8x8 pixels, in three parts, and the bilevel problem on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import bilevel as bl
from architecture_search.network import Network
from bilevel.ground.randomness import generator

__all__ = ["Labelled", "cross_entropy_sum", "digits", "search_problem"]


@dataclass(frozen=True)
class Labelled:
    """Images (n, 1, h, w) with values in [0, 1] and classes (n,)."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.images)

    def __add__(self, other: Labelled) -> Labelled:
        """Both, one after the other."""
        images = torch.cat([self.images, other.images])
        return Labelled(images, torch.cat([self.classes, other.classes]))

    def part(self, ids: Tensor) -> Labelled:
        """The samples ``ids``."""
        return Labelled(self.images[ids], self.classes[ids])


def digits(train: int = 300, validation: int = 300) -> tuple[Labelled, Labelled, Labelled]:
    """Training, validation and test part of the 1797 digits of the UCI collection.

    The split is drawn once and the same for everyone. Source: Alpaydin & Kaynak 1998, Optical
    Recognition of Handwritten Digits, doi:10.24432/C50P49, as shipped with scikit-learn.

    Example:
        >>> [len(part) for part in digits()]
        [300, 300, 1197]
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    everything = Labelled(images, torch.tensor(found.target))
    order = torch.randperm(len(everything), generator=generator(0, "split"))
    parts = torch.tensor_split(order, (train, train + validation))
    return everything.part(parts[0]), everything.part(parts[1]), everything.part(parts[2])


def cross_entropy_sum(network: Network, data: Labelled, decay: float = 0.0) -> bl.FiniteSum:
    """Cross entropy [nat] of the scores plus ``decay``/2 ‖x‖², a mean over samples."""

    def mean(x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
        scores = network.scores(x, theta["alpha"], data.images[ids])
        return cross_entropy(scores, data.classes[ids]) + 0.5 * decay * x.square().sum()

    return bl.FiniteSum(len(data), mean)


def search_problem(
    network: Network, train: Labelled, validation: Labelled, *, seed: int, decay: float = 3e-4
) -> bl.SharedProblem:
    """min_α L_val(x(α), α) with x(α) = argmin_x L_train(x, α) (Liu et al. 2019, eqs (3), (4)).

    The lower level takes one step where accuracy is asked for, as ``learn`` does at its end:
    networks are not solved, and a search does not need it.
    """
    lower = cross_entropy_sum(network, train, decay)
    upper = cross_entropy_sum(network, validation)
    theta, start = {"alpha": network.alpha()}, network.start(seed)
    return bl.SharedProblem(lower, upper, theta, start, max_steps=1)
