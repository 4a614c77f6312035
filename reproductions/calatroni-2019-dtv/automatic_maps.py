"""Directional total variation with automatic maps beside total variation, of one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

import bilevel as bl
from bilevel.report.metrics import ssim
from bilevel.select import Choice, DirectionalMaps, Rule

__all__ = ["BEST", "EXPONENTS", "RISK", "SMOOTHING", "TASKS", "WAYS", "Quality", "Restored", "Task"]

SMOOTHING = 0.01
EXPONENTS = (1.0, 2.0)
"""From 1 on the regulariser is convex."""
ACCURACY, WIDTH = 2e-3, 0.1
"""Of reconstructions [grey value], and of the logarithm of a weight."""
BEST, RISK, DISCREPANCY = "best weight", "predicted risk", "discrepancy"
WAYS = (BEST, RISK, DISCREPANCY)


@dataclass(frozen=True)
class Task:
    """A Gaussian blur of that deviation [pixel], if any, and noise [grey value]."""

    sigma: float
    blur: float | None = None

    @property
    def fidelity(self) -> bl.fidelities.SquaredL2:
        """Squares of A x - y."""
        operator = None if self.blur is None else bl.operators.GaussianBlur(self.blur)
        return bl.fidelities.SquaredL2(operator).double()

    def energy(self, term: bl.regularisers.Regulariser) -> bl.Variational:
        """With a regulariser."""
        return bl.Variational(self.fidelity, term.double())

    def data(self, truth: Tensor, seed: int = 0) -> bl.data.Pairs:
        """Of such images."""
        noise = bl.data.GaussianNoise(self.sigma)
        return bl.data.simulate(truth, self.fidelity.operator, noise, seed=seed)

    def chosen(
        self, energy: bl.Variational, pairs: bl.data.Pairs, way: str, near: Tensor | None = None
    ) -> Choice:
        """Weights and reconstructions by a way, between an eighth and 32 times those ``near``."""
        rules: dict[str, Rule] = {
            BEST: bl.rules.Oracle(pairs.target),
            RISK: bl.rules.PredictedRisk(self.sigma),
            DISCREPANCY: bl.rules.Discrepancy(self.sigma),
        }
        span = None if near is None else (float(near.min()) / 8, 32 * float(near.max()))
        return bl.select(energy, pairs.y, rules[way], span=span, accuracy=ACCURACY, width=WIDTH)

    def quality(self, x: Tensor, truth: Tensor, y: Tensor) -> Quality:
        """Of one reconstruction."""
        gain = (y - truth).square().mean() / (x - truth).square().mean()
        misfit = (self.fidelity.operator(x) - y).square().mean() / self.sigma**2
        return Quality(10 * float(gain.log10()), float(ssim(x, truth)), float(misfit))


TASKS = {"denoising": Task(0.1), "deblurring": Task(0.02, 1.2)}


@dataclass(frozen=True)
class Quality:
    """ISNR = 10 log10(‖y - x̃‖²/‖x - x̃‖²) [dB], SSIM, and ‖A x - y‖²/(m σ²)."""

    isnr: float
    ssim: float
    residual: float


@dataclass(frozen=True)
class Restored:
    """One image by model and way; maps of the directional total variation, and their weights."""

    images: Mapping[str, Tensor]
    maps: DirectionalMaps
    weight: Tensor

    @staticmethod
    def of(task: Task, pairs: bl.data.Pairs, ways: tuple[str, ...] = WAYS) -> Restored:
        """By both models; the maps come from the total variation of least predicted risk."""
        tv = task.energy(bl.regularisers.TotalVariation(1.0, SMOOTHING))
        first = task.chosen(tv, pairs, RISK)
        maps = bl.directional_maps(first.x, exponents=EXPONENTS)
        term = maps.regulariser(SMOOTHING)
        found = {f"TV, {RISK}": first}
        for model, energy in {"TV": tv, "DTV": task.energy(term)}.items():
            for way in ways:
                name = f"{model}, {way}"
                found[name] = found.get(name) or task.chosen(energy, pairs, way, first.weight)
        images = {name: choice.x for name, choice in found.items()}
        return Restored(images, maps, term.log_weight.detach().exp())
