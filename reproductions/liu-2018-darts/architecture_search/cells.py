"""Cells with one operation an edge: the strongest of a search, or a random draw."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from architecture_search.network import Cell, Edge
from architecture_search.operations import NAMES, ZERO
from bilevel.ground.randomness import generator

__all__ = ["describe", "random_cell", "strongest"]


def strongest(cell: Cell, alpha: Tensor, inputs: int = 2) -> Cell:
    """Into every node the ``inputs`` strongest edges, each with its strongest operation.

    The strength of an edge is the largest softmax weight of its operations other than zero
    (Liu et al. 2019, Section 2.4).

    Example:
        >>> alpha = torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.1, 3.0], [1.0, 0.0, 5.0]])
        >>> names = ("conv 3x3", "skip", "zero")
        >>> strongest({(0, 1): names, (0, 2): names, (1, 2): names}, alpha, inputs=1)
        {(0, 1): ('skip',), (0, 2): ('skip',)}
    """
    best: dict[Edge, tuple[float, str]] = {}
    for (edge, names), row in zip(cell.items(), torch.softmax(alpha, -1).tolist(), strict=True):
        best[edge] = max((s, n) for s, n in zip(row, names, strict=True) if n != ZERO)
    kept: list[Edge] = []
    for node in sorted({j for _, j in cell}):
        into = sorted((edge for edge in cell if edge[1] == node), key=lambda e: -best[e][0])
        kept += sorted(into[:inputs])
    return {edge: (best[edge][1],) for edge in kept}


def random_cell(seed: int, nodes: int = 4, inputs: int = 2) -> Cell:
    """Uniform among the cells that :func:`strongest` can return.

    Example:
        >>> random_cell(0) == random_cell(0), len(random_cell(0))
        (True, 5)
    """
    rng = generator(seed, "cell")
    names = [name for name in NAMES if name != ZERO]

    def draw(count: int) -> int:
        return int(torch.randint(count, (1,), generator=rng))

    cell: dict[Edge, tuple[str, ...]] = {}
    for node in range(1, nodes):
        choices = list(combinations(range(node), min(inputs, node)))
        for start in choices[draw(len(choices))]:
            cell[start, node] = (names[draw(len(names))],)
    return cell


def describe(cell: Cell) -> str:
    """One line.

    Example:
        >>> describe({(0, 1): ("skip",)})
        '0→1 skip'
    """
    return ", ".join(f"{i}→{j} {' or '.join(names)}" for (i, j), names in cell.items())
