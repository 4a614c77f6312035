"""Images known at some weights, and what they tell of those at others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground import rows

__all__ = ["Trail"]

KEPT = 8
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
        self._known: list[_Known] = []

    def add(self, log: Tensor, index: Tensor, x: Tensor) -> None:
        """Remember x (len(index), c, h, w) of the rows ``index`` at ``log`` (len(index),)."""
        logs = torch.full((self._count,), torch.inf, dtype=torch.float64)
        places = torch.zeros(self._count, dtype=torch.int64)
        logs[index - self._first], places[index - self._first] = log, torch.arange(len(index))
        self._known = [*self._known, _Known(logs, places, x)][-KEPT:]

    def at(self, log: Tensor, index: Tensor, otherwise: Tensor) -> Tensor:
        """Images of the rows ``index`` at ``log``; ``otherwise`` where nothing is known."""
        if not self._known:
            return otherwise
        index = index - self._first
        logs = torch.stack([known.logs[index] for known in self._known])
        order = (logs - log).abs().argsort(0)[:3]
        weights = interpolation(logs.gather(0, order), log)
        line = torch.where(rows.expand(weights.sum(0) > 0, otherwise), 0.0, otherwise)
        for nearest, weight in zip(order, weights, strict=True):
            for k, known in enumerate(self._known):
                these = torch.nonzero((nearest == k) & (weight != 0)).flatten()
                part = known.x[known.places[index[these]]]
                line[these] += rows.expand(weight[these].to(part), part) * part
        return line


@dataclass(frozen=True)
class _Known:
    """The images x of some rows: of which at which log w (inf: none), and their places in x."""

    logs: Tensor
    places: Tensor
    x: Tensor


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
