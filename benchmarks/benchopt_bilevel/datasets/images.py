"""Denoising of the embedded images with smoothed total variation: weight and smoothing."""

from benchopt import BaseDataset

import bilevel as bl


class Dataset(BaseDataset):
    name = "images"
    requirements = ["pip::bilevel"]
    parameters = {"size": [48], "noise": [0.1]}
    test_parameters = {"size": [8]}

    def get_data(self):
        images = bl.data.embedded_images(size=self.size)
        noise = bl.data.GaussianNoise(self.noise)
        seed = self.get_seed(use_repetition=True)
        pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=seed)

        def problem():
            variation = bl.regularisers.TotalVariation(
                0.02, smoothing=0.02, learn=("weight", "smoothing")
            )
            energy = bl.Variational(bl.fidelities.SquaredL2(), variation)
            return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)

        return {"problem": problem, "accuracy": 1e-4, "minimum": float("-inf")}
