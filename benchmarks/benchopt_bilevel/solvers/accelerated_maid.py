"""MAID with Barzilai-Borwein first steps."""

from benchmark_utils.learning import Learning

import bilevel as bl


class Solver(Learning):
    name = "accelerated MAID"
    requirements = ["pip::bilevel"]

    def algorithm(self, problem):
        return bl.algorithms.MAID(accelerated=True, tol=1e-7)
