"""Hyper-data-cleaning: a weight for every training sample tells wrong labels from right ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model import Bounds
from hyper_parameters.digits import Samples, Split

__all__ = ["Corrupted", "corrupt", "problem_of", "trained"]


@dataclass(frozen=True)
class Corrupted:
    """A split whose training labels are partly ``wrong`` (n,); the other labels are right."""

    parts: Split
    wrong: Tensor

    @property
    def clean(self) -> Samples:
        """The training samples whose labels are right."""
        training = self.parts.training
        return Samples(training.features[~self.wrong], training.labels[~self.wrong])


def corrupt(parts: Split, probability: float = 0.5, *, seed: int = 0) -> Corrupted:
    """Each training label is replaced, with ``probability``, by one of the nine others.

    Raises:
        InputError: a probability outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise InputError("probability must lie in [0, 1]", given=probability)
    labels, random = parts.training.labels, generator(seed, "labels")
    wrong = torch.rand(len(labels), generator=random) < probability
    moved = torch.randint(1, 10, (len(labels),), generator=random)
    training = replace(parts.training, labels=torch.where(wrong, (labels + moved) % 10, labels))
    return Corrupted(replace(parts, training=training), wrong)


def problem_of(parts: Split, *, ridge: float = 3e-2) -> bl.SharedProblem:
    """min_w validation loss of x(w) = argmin mean σ(w_i) ℓ_i(x) + ½ ridge ‖x‖² (Franceschi 2017).

    ``logits`` w (n,) start at 0, so that all samples count by one half.
    """
    training, validation = parts.training, parts.validation

    def lower(x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
        weights = theta["logits"][ids].sigmoid()
        return (weights * training.losses(x, ids)).mean() + 0.5 * ridge * x.square().sum()

    def upper(x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
        del theta
        return validation.losses(x, ids).mean()

    norm = float(torch.linalg.matrix_norm(training.features, 2))
    return bl.SharedProblem(
        bl.FiniteSum(len(training), lower),
        bl.FiniteSum(len(validation), upper),
        {"logits": torch.zeros(len(training), dtype=training.features.dtype)},
        torch.zeros(training.features.shape[1], 10, dtype=training.features.dtype),
        bounds=Bounds.of(ridge, 0.5 * norm**2 / len(training) + ridge),
    )


def trained(samples: Samples, parts: Split, *, ridge: float = 1e-2, tol: float = 1e-4) -> Tensor:
    """The classifier (d, 10) of unweighted training on ``samples``."""
    problem = problem_of(replace(parts, training=samples), ridge=ridge)
    everyone = torch.full((len(samples),), 40.0, dtype=samples.features.dtype)
    return problem.x({"logits": everyone}, tol=tol)
