"""Train the denoiser on six of the embedded images and print the PSNR on the two held out."""

from __future__ import annotations

import argparse
import time

import torch
from deq_networks import Denoiser
from torch import Tensor

from bilevel.data import embedded_images
from bilevel.ground.randomness import generator
from bilevel.report import psnr

__all__ = ["crops", "noisy", "train"]

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


def train(model: Denoiser, images: Tensor, *, sigma: float, steps: int, side: int = 32) -> int:
    """Adam on the mean squared error, 8 crops a step; how many rows failed to converge."""
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    failed = 0
    for t in range(steps):
        target = crops(images, 8, side, t)
        x, found = model(noisy(target, sigma, "noise", t))
        optimiser.zero_grad()
        (x - target).square().mean().backward()
        optimiser.step()
        schedule.step()
        failed += int((~found.solution.converged).sum())
        failed += sum(int((~adjoint.converged).sum()) for adjoint in found.adjoints)
    return failed


def main() -> None:
    """Train, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--sigma", type=float, default=0.1)
    options = parser.parse_args()
    torch.manual_seed(0)
    images = embedded_images(128)
    held_out = images[list(HELD_OUT)]
    known = images[[k for k in range(len(images)) if k not in HELD_OUT]]
    model, begin = Denoiser(), time.perf_counter()
    failed = train(model, known, sigma=options.sigma, steps=options.steps)
    seconds = time.perf_counter() - begin
    y = noisy(held_out, options.sigma, "held out")
    with torch.no_grad():
        x, found = model(y)
    print(f"noisy    {psnr(y, held_out).mean():.2f} dB")
    print(f"denoised {psnr(x, held_out).mean():.2f} dB, {found.solution.steps.tolist()} steps")
    print(f"{seconds:.0f} s, {failed} rows not converged in training")


if __name__ == "__main__":
    main()
