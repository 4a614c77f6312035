"""Training of the denoiser on crops of images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bilevel.ground.randomness import generator
from deep_equilibrium.networks import Denoiser

__all__ = ["HELD_OUT", "crops", "noisy", "train"]

HELD_OUT = (2, 5)


def noisy(x: Tensor, sigma: float, *key: object) -> Tensor:
    """x with Gaussian noise of standard deviation ``sigma`` [grey value]; (b, 1, h, w)."""
    return x + sigma * torch.randn(x.shape, generator=generator(0, *key))


def crops(images: Tensor, count: int, side: int, t: int) -> Tensor:
    """``count`` random crops (count, 1, side, side) of images (b, 1, h, w), those of step t."""
    source = generator(0, "crops", t)
    which = torch.randint(len(images), (count,), generator=source).tolist()
    room = images.shape[2] - side + 1
    corners = torch.randint(room, (count, 2), generator=source).tolist()
    return torch.stack(
        [images[k, :, i : i + side, j : j + side] for k, (i, j) in zip(which, corners, strict=True)]
    )


def train(
    model: Denoiser,
    images: Tensor,
    *,
    sigma: float,
    steps: int,
    side: int = 32,
    told: Callable[[float], None] = lambda done: None,
) -> int:
    """Adam on the mean squared error, 8 crops a step; how many rows failed to converge."""
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    failed = 0
    for t in range(steps):
        told(t / steps)
        target = crops(images, 8, side, t)
        x, found = model(noisy(target, sigma, "noise", t))
        optimiser.zero_grad()
        (x - target).square().mean().backward()
        optimiser.step()
        schedule.step()
        failed += int((~found.solution.converged).sum())
        failed += sum(int((~adjoint.converged).sum()) for adjoint in found.adjoints)
    return failed
