"""SABA: the variance vanishes by a memory of the last directions of every batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.ground import theta as algebra
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.directions import Directions, Iterates
from bilevel.learn.loops.accelerated import Accelerated
from bilevel.learn.loops.single_loop import Now
from bilevel.learn.problem import DirectedProblem

__all__ = ["SABA"]


@dataclass(frozen=True)
class Table(Packable):
    """Last directions by batch of one level, (batches, ...), and their means. Written in place.

    Batches that have not been seen yet count as the mean of those that have.
    """

    last: Theta
    mean: Theta
    seen: Tensor

    @staticmethod
    def of(batches: int, like: Theta) -> Table:
        """Nothing is seen yet."""
        last = {name: value.new_zeros(batches, *value.shape) for name, value in like.items()}
        mean = {name: torch.zeros_like(value) for name, value in like.items()}
        return Table(last, mean, torch.zeros(batches, dtype=torch.bool))

    def corrected(self, number: int, found: Theta) -> Theta:
        """Direction less the last one of this batch, plus the mean; both are then renewed."""
        better, known = dict(found), bool(self.seen[number])
        self.seen[number] = True
        count = int(self.seen.sum())
        for name, value in found.items():
            mean, last = self.mean[name], self.last[name]
            change = value - (last[number] if known else mean)
            better[name] = change + mean
            mean.add_(change, alpha=1 / count)
            last[number] = value
        return better


@dataclass(frozen=True)
class SABA(Accelerated):
    """Constant steps, with a memory of the gradients of all batches.

    SAGA on all three directions, with constant steps (Dagréou et al. 2022, arXiv 2201.13409).

    By their analysis, of one inner step and a small enough outer step, the mean of ‖∇F‖² is O(1/T),
    and falls linearly where F is gradient dominated.

    Memory: where each sample has its own x, D_x and D_v are exact, and only D_θ is remembered, one
    row of the size of θ a batch; x and v take two images a sample. Where samples share their x, a
    row a batch for each level: of the sizes of x, v and θ below, of v and θ above. Options: see
    :class:`~bilevel.learn.loops.single_loop.SingleLoop` and
    :class:`~bilevel.learn.loops.accelerated.Accelerated`.

    Example:
        >>> SABA(batch_size=4).decay
        0.0
    """

    def remember(self, problem: DirectedProblem, theta: Theta, at: Iterates) -> Packable:
        """Empty tables."""
        pairing = self.pairing(problem)
        if problem.separable:
            return Tables((Table.of(pairing.lower.batches, theta),))
        below = Table.of(pairing.lower.batches, {**theta, _X: at.x, _V: at.v})
        return Tables((below, Table.of(pairing.upper.batches, {**theta, _V: at.v})))

    def advance(self, problem: DirectedProblem, now: Now) -> tuple[Directions, Packable]:
        """Directions of the next draw, corrected level by level."""
        pairing, tables = self.pairing(problem), cast(Tables, now.memory)
        found = self.look(problem, now, pairing.draw(now.t))
        if found.trust > 0:
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
