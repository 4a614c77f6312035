"""Networks of equal cells; an edge of a cell mixes its candidates with softmax weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from architecture_search.operations import NAMES, OPERATIONS, Shape, normalise
from bilevel import InputError
from bilevel.ground.randomness import generator

__all__ = ["Cell", "Edge", "Network", "full_cell"]

Edge = tuple[int, int]
Cell = Mapping[Edge, tuple[str, ...]]
"""Candidates of every edge (i, j), i < j; node 0 is the input of the cell."""


def full_cell(nodes: int = 4) -> Cell:
    """Every edge with every candidate.

    Example:
        >>> len(full_cell(4)), len(full_cell(4)[0, 1])
        (6, 7)
    """
    edges = sorted(combinations(range(nodes), 2), key=lambda edge: (edge[1], edge[0]))
    return dict.fromkeys(edges, NAMES)


@dataclass(frozen=True)
class Network:
    """Images (b, 1, h, w) to scores (b, classes): stem, cell, halving, cell, mean, linear.

    Stem and halving are 1x1: only cells look beyond a pixel. All weights are one vector x, so
    that the network is a pure function of x and α (Liu et al. 2019, eqs (1), (2)):

        o(z) = Σ_o softmax(α_e)_o o(z)    on edge e,    z_j = Σ_{i<j} o_(i,j)(z_i).

    The output of a cell are its nodes except the input, one after the other in the channels.

    Args:
        cell: candidates of every edge, the rows of α in this order.
        channels: of every node.
        classes: of the scores.

    Raises:
        InputError: edges that do not point forward, or edges with unequal numbers of candidates.

    Example:
        >>> network = Network({(0, 1): ("conv 3x3",)}, channels=4)
        >>> x = network.start(seed=0)
        >>> network.scores(x, network.alpha(), torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    cell: Cell
    channels: int = 8
    classes: int = 10

    def __post_init__(self) -> None:
        """A cell that can be computed from its first node to its last."""
        if not self.cell or any(not 0 <= i < j for i, j in self.cell):
            raise InputError("edges (i, j) need 0 <= i < j", given=list(self.cell))
        if {j for _, j in self.cell} != set(range(1, self.nodes)):
            raise InputError("every node needs an incoming edge", given=list(self.cell))
        if len({len(names) for names in self.cell.values()}) != 1:
            raise InputError("every edge needs as many candidates", given=dict(self.cell))

    @property
    def nodes(self) -> int:
        """Of a cell, with its input."""
        return 1 + max(j for _, j in self.cell)

    def alpha(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Zeros, (edges, candidates): every candidate counts alike."""
        return torch.zeros(len(self.cell), len(next(iter(self.cell.values()))), dtype=dtype)

    def shapes(self) -> list[Shape]:
        """Of all weights, in the order in which they are used."""
        c, wide = self.channels, self.channels * (self.nodes - 1)
        cell = [
            shape
            for names in self.cell.values()
            for name in names
            for shape in OPERATIONS[name].shapes(c)
        ]
        return [(c, 1, 1, 1), (c,), *cell, (c, wide, 1, 1), *cell, (self.classes, wide)]

    def start(self, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Random weights of variance 2 / fan-in as one vector (He et al. 2015, eq. (10))."""
        rng = generator(seed, "weights")
        parts = [
            torch.randn(shape, generator=rng, dtype=torch.float64)
            * (0.0 if len(shape) == 1 else math.sqrt(2 / math.prod(shape[1:])))
            for shape in self.shapes()
        ]
        return torch.cat([part.flatten() for part in parts]).to(dtype)

    def scores(self, x: Tensor, alpha: Tensor, images: Tensor) -> Tensor:
        """Unnormalised log-probabilities, (b, classes)."""
        shapes = self.shapes()
        split = torch.split(x, [math.prod(shape) for shape in shapes])
        weights = (part.view(shape) for part, shape in zip(split, shapes, strict=True))
        shares = torch.softmax(alpha, -1)
        z = normalise(conv2d(images, next(weights), next(weights)))
        z = self._cell(z, shares, weights)
        z = avg_pool2d(normalise(conv2d(torch.relu(z), next(weights))), 2)
        z = self._cell(z, shares, weights)
        return torch.relu(z).mean((2, 3)) @ next(weights).mT

    def _cell(self, z: Tensor, shares: Tensor, weights: Iterator[Tensor]) -> Tensor:
        nodes: list[Tensor] = [z]
        sums: dict[int, Tensor] = {}
        for (edge, names), share in zip(self.cell.items(), shares, strict=True):
            start, end = edge
            while len(nodes) <= start:
                nodes.append(sums[len(nodes)])
            for name, weight in zip(names, share, strict=True):
                operation = OPERATIONS[name]
                own = [next(weights) for _ in operation.shapes(self.channels)]
                term = weight * operation.apply(nodes[start], own)
                sums[end] = sums[end] + term if end in sums else term
        return torch.cat([sums[j] for j in range(1, self.nodes)], 1)
