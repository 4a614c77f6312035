"""SABA: the variance vanishes by a memory of the last directions of every batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch

from bilevel.ground import theta as algebra
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.algorithms.single_loop import Now, SingleLoop
from bilevel.learn.directions import Directions, Draw, Iterates
from bilevel.learn.problem import BilevelProblem

__all__ = ["SABA"]


@dataclass(frozen=True)
class Table(Packable):
    """Last directions by batch of one level, (batches, ...), and their means. Written in place."""

    last: Theta
    mean: Theta

    @staticmethod
    def of(rows: Sequence[Theta]) -> Table:
        """One row a batch."""
        last = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return Table(last, {name: value.mean(0) for name, value in last.items()})

    def corrected(self, number: int, found: Theta) -> Theta:
        """Direction less the last one of this batch, plus the mean; both are then renewed."""
        better: Theta = {}
        for name, value in found.items():
            change = value - self.last[name][number]
            better[name] = change + self.mean[name]
            self.mean[name].add_(change, alpha=1 / len(self.last[name]))
            self.last[name][number] = value
        return better


@dataclass(frozen=True)
class SABA(SingleLoop):
    """SAGA on all three directions, with constant steps (Dagréou et al. 2022, arXiv 2201.13409).

    By their analysis the mean of ‖∇F‖² is O(1/T), and falls linearly where F is gradient dominated,
    for small enough steps.

    Memory: where each sample has its own x, D_x and D_v are exact, and only D_θ is remembered, one
    row of the size of θ a batch; x and v take two images a sample. Where samples share their x, a
    row a batch for each level: of the sizes of x, v and θ below, of v and θ above. Options: see
    :class:`~bilevel.learn.algorithms.single_loop.SingleLoop`.

    Example:
        >>> SABA(batch_size=4).decay
        0.0
    """

    def remember(self, problem: BilevelProblem, theta: Theta, at: Iterates) -> Packable:
        """The directions of all batches at the start."""
        pairing = self.pairing(problem)
        sizes = [pairing.lower.batches, pairing.upper.batches]
        levels: tuple[list[Theta], ...] = ([], [])
        for k in range(pairing.epoch):
            lower, upper = (k % size for size in sizes)
            draw = Draw(pairing.lower.batch(lower), pairing.upper.batch(upper))
            parts = _parts(problem.directions(theta, at, draw))
            for level, part, size in zip(levels, parts, sizes, strict=False):
                if k < size:
                    level.append(part)
        return Tables(tuple(Table.of(level) for level in levels if level))

    def advance(self, problem: BilevelProblem, now: Now) -> tuple[Directions, Packable]:
        """Directions of the next draw, corrected level by level."""
        pairing, tables = self.pairing(problem), cast(Tables, now.memory)
        found = problem.directions(now.theta, now.at, pairing.draw(now.t))
        better = tables.corrected(pairing.numbers(now.t), _parts(found))
        x, v = better.pop(_X, found.x), better.pop(_V, found.v)
        found = replace(found, x=x, v=v, theta=better)
        self.move(problem, now, found)
        return found, tables


@dataclass(frozen=True)
class Tables(Packable):
    """One for each level that has batches of its own."""

    levels: tuple[Table, ...]

    def corrected(self, numbers: Sequence[int], parts: Sequence[Theta]) -> Theta:
        """The sum of the corrected parts."""
        total: Theta = {}
        for table, number, part in zip(self.levels, numbers, parts, strict=False):
            better = table.corrected(number, part)
            total |= {name: total[name] + b if name in total else b for name, b in better.items()}
        return total


_X, _V = "x ", "v "
"""Names that no parameter has."""


def _parts(found: Directions) -> list[Theta]:
    """What depends on the batches drawn, level by level."""
    if found.pull is None:
        return [dict(found.theta)]
    upper = {**found.pull.theta, _V: found.pull.x}
    cross = algebra.add(found.theta, found.pull.theta, -1.0)
    return [{**cross, _X: found.x, _V: found.v - found.pull.x}, upper]
