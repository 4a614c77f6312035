"""Projected L-BFGS with inexact values."""

from benchmark_utils.learning import Learning

import bilevel as bl


class Solver(Learning):
    name = "L-BFGS"
    requirements = ["pip::bilevel"]

    def algorithm(self, problem):
        return bl.algorithms.LBFGS(tol=1e-7)
