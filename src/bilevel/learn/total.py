"""Sums over chunks of samples, on the way to an evaluation."""

from __future__ import annotations

import math

import torch

from bilevel.differentiate import UpperGradient
from bilevel.ground import theta as algebra
from bilevel.ground.theta import Theta
from bilevel.learn.evaluation import Evaluation
from bilevel.solve import Solution

__all__ = ["Total", "worst_distance"]


def worst_distance(solution: Solution) -> float:
    """The largest certified rms distance of a row; inf where one is not proved."""
    return float(solution.certificate.rms.nan_to_num(math.inf, math.inf).max())


class Total:
    """Sums over chunks of samples."""

    def __init__(self, theta: Theta, accuracy: float) -> None:
        self.theta, self.accuracy = theta, accuracy
        self.grad: Theta = {name: torch.zeros_like(value) for name, value in theta.items()}
        self.value = self.corrected = self.interval = self.interval_estimate = 0.0
        self.error = self.estimate = 0.0
        self.certificate, self.uncertified, self.unsolved, self.samples = 0.0, 0, 0, 0

    def add(self, found: UpperGradient, solution: Solution) -> None:
        """One chunk."""
        count = len(found.value)
        self.grad = algebra.add(self.grad, found.grad, float(count))
        self.value += float(found.value.sum())
        self.corrected += float(found.corrected.sum())
        self.interval += float(found.interval.sum())
        self.interval_estimate += float(found.interval_estimate.sum())
        self.error += float(found.error.sum())
        self.estimate += found.estimate * count
        self.certificate = max(self.certificate, worst_distance(solution))
        converged = solution.converged
        if found.linear is not None:
            converged = converged & found.linear.converged
        self.uncertified += int((~converged).sum())
        self.unsolved += int(found.unsolved.sum())
        self.samples += count

    def mean(self) -> Evaluation:
        """Divide by the number of samples."""
        n = self.samples
        return Evaluation(
            theta=self.theta,
            accuracy=self.accuracy,
            value=self.value / n,
            corrected=self.corrected / n,
            interval=self.interval / n,
            interval_estimate=self.interval_estimate / n,
            grad={name: value / n for name, value in self.grad.items()},
            error=self.error / n,
            estimate=self.estimate / n if not math.isnan(self.estimate) else math.nan,
            certificate=self.certificate,
            uncertified=self.uncertified,
            unsolved=self.unsolved,
            samples=n,
        )
