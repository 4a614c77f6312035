"""What all solvers of this library share: one outer step a callback."""

from __future__ import annotations

import math
from abc import abstractmethod

from benchopt import BaseSolver

from bilevel.learn.algorithm import Status


class Learning(BaseSolver):
    """A subclass says which ``algorithm``; solvers of other libraries need nothing from here."""

    def set_objective(self, problem):
        self.make = problem
        self.theta = problem().theta

    @abstractmethod
    def algorithm(self, problem):
        """With its options."""

    def batch_size(self, problem):
        """A sixteenth of the samples of the smaller level."""
        return max(1, min(problem.counts) // 16)

    def run(self, callback):
        problem = self.make()
        algorithm = self.algorithm(problem)
        self.theta, state = problem.theta, None
        while callback():
            if state is None:
                state = algorithm.init(problem, problem.theta)
            elif state.status is Status.RUNNING:
                state = algorithm.step(problem, state)
            if math.isfinite(state.evaluation.value):
                self.theta = state.evaluation.theta

    def get_result(self):
        return {"theta": self.theta}
