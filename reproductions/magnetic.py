"""Magnetic resonance: slices made complex by smooth phases, and errors of complex images."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground.randomness import generator

__all__ = ["complex_image", "complex_psnr"]


def complex_image(x: Tensor, name: str) -> Tensor:
    """(1, 1, h, w) with a smooth phase that depends on the name, (1, 2, h, w)."""
    h, w = x.shape[2:]
    v, u = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)[None]
    a = torch.randn(6, generator=generator(0, "phase", name))
    phase = a[0] * 3 + a[1] * u + a[2] * v + 0.5 * (a[3] * u * v + a[4] * u**2 + a[5] * v**2)
    return torch.cat([x * phase.cos(), x * phase.sin()], 1)


def complex_psnr(x: Tensor, target: Tensor) -> Tensor:
    """Of complex errors, (b,) [dB]; the largest modulus of a slice is white."""
    peak = target.square().sum(1).flatten(1).amax(1)
    return 10 * (peak / (x - target).square().sum(1).flatten(1).mean(1)).log10()
