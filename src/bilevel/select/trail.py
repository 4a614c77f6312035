"""Images known at some weights, and what they tell of those at others."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground import rows

__all__ = ["Trail"]

KEPT = 32
"""So many images of each row are remembered."""
MOST_GROWTH = 50.0
"""A parabola counts where errors of the images grow by no more; by 7 one equal step outside."""


class Trail:
    """log w -> an image for each row, by the parabola or line through the nearest that are known.

    Args:
        rows: numbers of the rows, one after the other.

    Example:
        >>> row = torch.arange(1)
        >>> trail = Trail(row)
        >>> for log in (0.0, 1.0, 2.0):
        ...     trail.add(torch.tensor([log]).double(), row, torch.full((1, 1, 1, 1), log**2))
        >>> trail.at(torch.tensor([3.0]).double(), row, torch.zeros(1, 1, 1, 1)).item()
        9.0
    """

    def __init__(self, rows: Tensor) -> None:
        """Nothing is known."""
        self._first, self._count = int(rows[0]), len(rows)
        self._logs: list[Tensor] = []
        self._known: list[Tensor] = []

    def add(self, log: Tensor, index: Tensor, x: Tensor) -> None:
        """Remember x (len(index), c, h, w) of the rows ``index`` at ``log`` (len(index),)."""
        index = index - self._first
        logs = torch.full((self._count,), torch.inf, dtype=log.dtype, device=log.device)
        logs[index] = log
        known = x.new_zeros(self._count, *x.shape[1:])
        known[index] = x
        self._logs, self._known = [*self._logs, logs][-KEPT:], [*self._known, known][-KEPT:]

    def at(self, log: Tensor, index: Tensor, otherwise: Tensor) -> Tensor:
        """Images of the rows ``index`` at ``log``; ``otherwise`` where nothing is known."""
        if not self._logs:
            return otherwise
        index = index - self._first
        logs = torch.stack(self._logs)[:, index]
        order = (logs - log).abs().argsort(0)[:3]
        weights = interpolation(logs.gather(0, order), log)
        known = torch.stack(self._known)
        line = torch.zeros_like(otherwise)
        for nearest, weight in zip(order, weights, strict=True):
            line = line + rows.expand(weight.to(line), line) * known[nearest, index]
        return torch.where(rows.expand(weights.sum(0) > 0, line), line, otherwise)


def interpolation(nodes: Tensor, at: Tensor) -> Tensor:
    """Lagrange weights (n, b) of up to three nodes, sorted by distance; inf stands for no node.

    Outside the nodes a line goes on no further than they are apart.
    """
    weights = torch.zeros_like(nodes)
    weights[0] = nodes[0].isfinite().double()
    if len(nodes) < 2:
        return weights
    nodes = torch.where(nodes.isfinite(), nodes, nodes[0])
    share = ((at - nodes[0]) / (nodes[1] - nodes[0])).clamp(-1.0, 1.0)
    line = nodes[1] != nodes[0]
    weights[1] = torch.where(line, share, 0.0)
    weights[0] = torch.where(line, 1 - share, weights[0])
    if len(nodes) < 3:
        return weights
    a, b, c = nodes[:3] - at
    parabola = torch.stack(
        [b * c / ((a - b) * (a - c)), a * c / ((b - a) * (b - c)), a * b / ((c - a) * (c - b))]
    )
    sure = parabola.abs().sum(0) <= MOST_GROWTH  # false for nan: nodes that coincide
    return torch.where(sure, parabola, weights)
