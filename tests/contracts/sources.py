"""Images of smoothed data plus sources of learned strengths: convex in θ, solved in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.model import Bounds

DOUBLE = torch.float64


class Sources(bl.Energy):
    """J = ½|x - y|² + ½|Dx|² - Σ_j θ_j ⟨b_j, x⟩ with cyclic differences D along the lines."""

    def __init__(self, sources: Tensor) -> None:
        super().__init__()
        self.register_buffer("sources", sources)
        self.strength = nn.Parameter(torch.zeros(len(sources), dtype=DOUBLE))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        slope = x - x.roll(1, -1)
        pull = torch.einsum("j,jchw->chw", self.strength, self.sources)
        terms = 0.5 * (x - y).square() + 0.5 * slope.square() - pull * x
        return terms.flatten(1).sum(1)

    def bounds(self, y: Tensor) -> Bounds:
        return Bounds.of(1.0, 5.0)


def smoothed(x: Tensor) -> Tensor:
    """(I + DᵀD)⁻¹x."""
    size = x.shape[-1]
    eye = torch.eye(size, dtype=x.dtype)
    d = eye - eye.roll(1, 0)
    return x @ torch.linalg.inv(eye + d.T @ d)


def problem_and_solution(count: int, seed: int = 0) -> tuple[bl.BilevelProblem, Tensor]:
    """With ``count`` sources, and argmin L by least squares."""
    g = torch.Generator().manual_seed(seed)
    sources = torch.randn(count, 1, 6, 6, generator=g, dtype=DOUBLE)
    y, noise = torch.rand(2, 5, 1, 6, 6, generator=g, dtype=DOUBLE)
    wanted = torch.tensor([0.9, -0.6, 0.3], dtype=DOUBLE)[:count]
    target = smoothed(y + torch.einsum("j,jchw->chw", wanted, sources)) + 0.3 * (noise - 0.5)
    energy = Sources(sources)
    pairs = bl.data.Pairs(y, target, tuple("abcde"))
    change = smoothed(sources).flatten(1)
    missing = (target - smoothed(y)).mean(0).flatten()
    solution = torch.linalg.lstsq(change.T, missing[:, None]).solution[:, 0]
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs), solution
