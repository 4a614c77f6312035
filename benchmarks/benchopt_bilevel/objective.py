"""The upper-level loss where a solver stands, always at an accurate lower-level solution."""

import math

from benchopt import BaseObjective
from benchopt.stopping_criterion import NoCriterion


class Objective(BaseObjective):
    name = "Bilevel learning"
    url = "https://arxiv.org/abs/2201.13409"
    min_benchopt_version = "1.10"
    requirements = ["pip::bilevel"]
    sampling_strategy = "callback"
    stopping_criterion = NoCriterion()
    test_dataset_name = "quadratic"

    def set_data(self, problem, accuracy, minimum):
        """``problem()`` makes a fresh problem; ``minimum`` of the loss is -inf where unknown."""
        self.problem, self.accuracy, self.minimum = problem, accuracy, minimum
        self.judge = problem()

    def get_objective(self):
        return {"problem": self.problem}

    def evaluate_result(self, theta):
        found = self.judge.value_and_grad(theta, tol=self.accuracy)
        squares = sum(float(g.square().sum()) for g in found.grad.values())
        known = math.isfinite(self.minimum)
        excess = {"excess": found.value - self.minimum} if known else {}
        return {"value": found.value, "gradient_norm": math.sqrt(squares), **excess}

    def get_one_result(self):
        return {"theta": self.judge.theta}
