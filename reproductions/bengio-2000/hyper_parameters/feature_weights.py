"""Multinomial logistic regression with one learned weight for every feature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import bilevel as bl
from bilevel.model import Bounds
from hyper_parameters.digits import Split

__all__ = ["Search", "problem_of", "search"]

LOWEST, HIGHEST = -7.0, 2.0


def problem_of(parts: Split, log_weights: Tensor) -> bl.SharedProblem:
    """min_w validation loss of x(w) = argmin training loss + ½ Σ_f e^{w_f} ‖x_f‖².

    ``log_weights`` (d,) is one for each feature, or (1,) for one in common. The Hessian of the
    cross-entropy in the logits lies between 0 and ½ (Böhning 1992), which bounds that in x.
    """
    training, validation = parts.training, parts.validation

    def lower(x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
        penalty = 0.5 * (theta["log_weights"].exp() * x.square().sum(1)).sum()
        return training.losses(x, ids).mean() + penalty

    def upper(x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
        del theta
        return validation.losses(x, ids).mean()

    norm = float(torch.linalg.matrix_norm(training.features, 2))
    largest = 0.5 * norm**2 / len(training) + math.exp(HIGHEST)
    return bl.SharedProblem(
        bl.FiniteSum(len(training), lower),
        bl.FiniteSum(len(validation), upper),
        {"log_weights": log_weights},
        torch.zeros(training.features.shape[1], 10, dtype=training.features.dtype),
        sets={"log_weights": bl.sets.Box(LOWEST, HIGHEST)},
        bounds=Bounds.of(math.exp(LOWEST), largest),
    )


@dataclass(frozen=True)
class Search:
    """Classifiers x (d, 10) for every single weight that was tried, the best one marked."""

    log_weights: tuple[float, ...]
    losses: tuple[float, ...]
    best: float
    x: Tensor


def search(parts: Split, points: int = 37, *, tol: float = 1e-4) -> Search:
    """The best weight in common by validation loss, densely searched over the whole box."""
    problem = problem_of(parts, torch.full((1,), HIGHEST, dtype=torch.float64))
    grid = torch.linspace(HIGHEST, LOWEST, points, dtype=torch.float64)
    found = [problem.x({"log_weights": w.view(1)}, tol=tol) for w in grid]
    losses = [parts.validation.loss(x) for x in found]
    place = min(range(points), key=losses.__getitem__)
    return Search(tuple(grid.tolist()), tuple(losses), float(grid[place]), found[place])
