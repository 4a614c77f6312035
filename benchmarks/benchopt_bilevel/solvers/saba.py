"""SAGA at all levels; an outer step is an epoch."""

from benchmark_utils.learning import Learning

import bilevel as bl


class Solver(Learning):
    name = "SABA"
    requirements = ["pip::bilevel"]

    def algorithm(self, problem):
        return bl.algorithms.SABA(batch_size=self.batch_size(problem), tol=1e-7)
