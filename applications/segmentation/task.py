"""A segmenter trained on clean images, and what is learned with it and without."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bilevel as bl
from segmentation.scenes import Scenes


def segmenter(scenes: Scenes, steps: int = 300, seed: int = 0) -> nn.Module:
    """Two layers, trained on the clean images with a little noise: (b, 1, h, w) -> logits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2, padding_mode="reflect"), nn.Tanh(), nn.Conv2d(6, 1, 1)
        ).double()
        loss = nn.BCEWithLogitsLoss()
        optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
        for _ in range(steps):
            x = scenes.clean + 0.02 * torch.randn_like(scenes.clean)
            optimiser.zero_grad()
            loss(net(x - 0.4), scenes.labels).backward()
            optimiser.step()
    return nn.Sequential(_Shift(0.4), net).eval()


class _Shift(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x - self.by


@dataclass(frozen=True)
class Judged:
    """On scenes that were not learned from."""

    psnr: float
    """[dB]."""
    cross_entropy: float
    """[nat]."""
    dice: float
    """Overlap of discs found and discs, [0, 1]."""


def energy() -> bl.Variational:
    """Denoising by smoothed TV whose weight is learned."""
    tv = bl.regularisers.TotalVariation(0.05, 0.02, learn=("weight",))
    return bl.Variational(bl.fidelities.SquaredL2(), tv).double()


def learned(loss: bl.losses.Loss, samples: bl.data.Pairs, steps: int = 40) -> bl.Fit:
    """θ for that loss, by the algorithm that fits."""
    return bl.learn(bl.BilevelProblem(energy(), loss, samples), budget=bl.Budget(steps=steps))


def judged(fit: bl.Fit, net: nn.Module, scenes: Scenes) -> Judged:
    """How the reconstructions look, and how well they are segmented."""
    x = fit.reconstruct(scenes.y, bl.Tolerance(rms=1e-4)).x
    loss = bl.losses.SegmentationLoss(net)
    with torch.no_grad():
        found = (net(x) > 0).double()
        entropy = float(loss.value(x, scenes.labels).mean())
    overlap = 2 * (found * scenes.labels).sum() / (found.sum() + scenes.labels.sum())
    psnr = 10 * (1 / (x - scenes.clean).square().flatten(1).mean(1)).log10()
    return Judged(float(psnr.mean()), entropy, float(overlap))
