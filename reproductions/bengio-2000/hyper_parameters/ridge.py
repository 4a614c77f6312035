"""Ridge regression whose single weight is learned, and its optimum without any learning."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from sklearn.datasets import load_diabetes
from torch import Tensor

import bilevel as bl
from bilevel.ground.randomness import generator
from bilevel.model import Bounds

__all__ = ["Ridge", "diabetes"]


@dataclass(frozen=True)
class Ridge:
    """min_w ½ mean (B x(w) - c)² with x(w) = argmin ½ mean (A x - b)² + ½ e^w ‖x‖².

    A (n, d) and b (n,) train, B (m, d) and c (m,) validate; w = ``log_weight`` in [-6, 3].
    """

    a: Tensor
    b: Tensor
    held_out: Tensor
    answers: Tensor
    lowest: float = -6.0
    highest: float = 3.0

    def problem(self, log_weight: float = 0.0) -> bl.SharedProblem:
        """With proved bounds of the Hessian: e^w ≤ eigenvalues ≤ ‖A‖²/n + e^w on the box."""

        def lower(x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
            misfit = (self.a[ids] @ x - self.b[ids]).square().mean()
            return 0.5 * misfit + 0.5 * theta["log_weight"].exp() * x.square().sum()

        def upper(x: Tensor, theta: bl.Theta, ids: Tensor) -> Tensor:
            del theta
            return 0.5 * (self.held_out[ids] @ x - self.answers[ids]).square().mean()

        norm = float(torch.linalg.matrix_norm(self.a, 2))
        largest = norm**2 / len(self.a) + math.exp(self.highest)
        return bl.SharedProblem(
            bl.FiniteSum(len(self.a), lower),
            bl.FiniteSum(len(self.held_out), upper),
            {"log_weight": torch.tensor(log_weight, dtype=self.a.dtype)},
            torch.zeros(self.a.shape[1], dtype=self.a.dtype),
            sets={"log_weight": bl.sets.Box(self.lowest, self.highest)},
            bounds=Bounds.of(math.exp(self.lowest), largest),
            solver=bl.solvers.NewtonCG(),
        )

    def solution(self, log_weight: float) -> Tensor:
        """x(w) by the singular value decomposition A = U S Vᵀ: V (S² + n e^w)⁻¹ S Uᵀ b."""
        u, s, vt = torch.linalg.svd(self.a, full_matrices=False)
        return vt.T @ (s * (u.T @ self.b) / (s.square() + len(self.a) * math.exp(log_weight)))

    def loss(self, log_weight: float) -> float:
        """The validation loss at x(w)."""
        return float(
            0.5 * (self.held_out @ self.solution(log_weight) - self.answers).square().mean()
        )

    def slope(self, log_weight: float) -> float:
        """Its derivative by w, in closed form: dx/dw = -V (S² + n e^w)⁻² n e^w S Uᵀ b."""
        u, s, vt = torch.linalg.svd(self.a, full_matrices=False)
        shift = len(self.a) * math.exp(log_weight)
        moved = -vt.T @ (shift * s * (u.T @ self.b) / (s.square() + shift).square())
        misfit = self.held_out @ self.solution(log_weight) - self.answers
        return float(misfit @ (self.held_out @ moved)) / len(misfit)

    def best(self, points: int = 181) -> float:
        """The best w: the best of so many on a grid, then the root of the slope around it."""
        grid = torch.linspace(self.lowest, self.highest, points, dtype=torch.float64).tolist()
        place = min(range(points), key=lambda k: self.loss(grid[k]))
        left, right = grid[max(place - 1, 0)], grid[min(place + 1, points - 1)]
        return float(brentq(self.slope, left, right, xtol=1e-13))


def diabetes(training: int = 60, validation: int = 200, *, seed: int = 0) -> Ridge:
    """The 442 patients of scikit-learn: ten features, and their products two by two (65).

    Features and answers have mean 0 and variance 1.

    Example:
        >>> tuple(diabetes().a.shape)
        (60, 65)
    """
    bunch = load_diabetes()
    features = standardised(torch.as_tensor(bunch.data, dtype=torch.float64))
    first, second = torch.triu_indices(10, 10)
    products = standardised(features[:, first] * features[:, second])
    table = torch.cat([features, products], 1)
    answers = standardised(torch.as_tensor(bunch.target, dtype=torch.float64))
    order = torch.randperm(len(answers), generator=generator(seed, "split"))
    train, validate = order[:training], order[training : training + validation]
    return Ridge(table[train], answers[train], table[validate], answers[validate])


def standardised(values: Tensor) -> Tensor:
    """Mean 0 and variance 1 down every column."""
    return (values - values.mean(0)) / values.std(0)
