"""Projected gradient with accuracies that tighten geometrically."""

from benchmark_utils.learning import Learning

import bilevel as bl


class Solver(Learning):
    name = "Algorithm 1"
    requirements = ["pip::bilevel"]

    def algorithm(self, problem):
        return bl.algorithms.ProjectedGradient(tol=1e-7)
