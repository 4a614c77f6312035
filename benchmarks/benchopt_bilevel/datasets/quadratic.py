"""Quadratics at both levels, as in the public bilevel benchmark (arXiv 2201.13409, 2302.08766)."""

from benchmark_utils.quadratics import Quadratics
from benchopt import BaseDataset


class Dataset(BaseDataset):
    name = "quadratic"
    requirements = ["pip::bilevel"]
    parameters = {
        "n": [1024],
        "m": [1024],
        "dimension": [100],
        "mu": [0.1],
        "largest": [1.0],
        "cross": [0.1],
    }
    test_parameters = {"n": [32], "m": [32], "dimension": [5]}

    def get_data(self):
        seed = self.get_seed(use_repetition=True)
        data = Quadratics.random(
            self.n, self.m, self.dimension, self.mu, self.largest, self.cross, seed
        )
        return {"problem": data.problem, "accuracy": 1e-8, "minimum": data.minimum()}
