"""Random scenes with labels: discs a little brighter than their surroundings, finely striped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bilevel as bl

CONTRAST, STRIPES, NOISE = 0.1, 0.12, 0.15


@dataclass(frozen=True)
class Scenes:
    """Noisy data, clean images and labels of 0 and 1, (k, 1, n, n) each."""

    y: Tensor
    clean: Tensor
    labels: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """An id for each."""
        return tuple(map(str, range(len(self.y))))

    @property
    def pictures(self) -> bl.data.Pairs:
        """With the clean images as targets."""
        return bl.data.Pairs(self.y, self.clean, self.names)

    @property
    def labelled(self) -> bl.data.Pairs:
        """With the labels as targets."""
        return bl.data.Pairs(self.y, self.labels, self.names)


def scenes(count: int, size: int = 48, *, seed: int) -> Scenes:
    """``count`` scenes of three discs each."""
    rng = torch.Generator().manual_seed(seed)
    grid = torch.arange(size, dtype=torch.float64)
    centre = size * torch.rand(count, 3, 2, 1, 1, generator=rng, dtype=torch.float64)
    radius = size * (0.1 + 0.1 * torch.rand(count, 3, 1, 1, generator=rng, dtype=torch.float64))
    away = (grid[:, None] - centre[:, :, 0]) ** 2 + (grid - centre[:, :, 1]) ** 2
    labels = (away <= radius**2).any(1, keepdim=True).double()
    phase = 3 * torch.rand(count, 1, 1, 1, generator=rng, dtype=torch.float64)
    stripes = STRIPES * (1.8 * grid + 3 * phase).sin().expand(count, 1, size, size)
    clean = 0.4 + CONTRAST * labels + stripes
    noise = torch.randn(clean.shape, generator=rng, dtype=torch.float64)
    return Scenes(clean + NOISE * noise, clean, labels)
