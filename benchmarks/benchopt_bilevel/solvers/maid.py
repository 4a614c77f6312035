"""The method of adaptive inexact descent."""

from benchmark_utils.learning import Learning

import bilevel as bl


class Solver(Learning):
    name = "MAID"
    requirements = ["pip::bilevel"]

    def algorithm(self, problem):
        return bl.algorithms.MAID(tol=1e-7)
