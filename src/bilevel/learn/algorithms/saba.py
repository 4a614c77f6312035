"""SABA: the variance vanishes by a memory of the last directions of every batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.algorithms.single_loop import Now, SingleLoop
from bilevel.learn.directions import Directions, Iterates
from bilevel.learn.problem import BilevelProblem

__all__ = ["SABA"]


@dataclass(frozen=True)
class Table(Packable):
    """Last directions by pair of batches, (pairs, ...), and their means. Written in place."""

    last: Theta
    mean: Theta

    @staticmethod
    def of(rows: list[Theta]) -> Table:
        """One row a pair."""
        last = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return Table(last, {name: value.mean(0) for name, value in last.items()})

    def corrected(self, number: int, found: Theta) -> Theta:
        """Direction less the last one of this pair, plus the mean; both are then renewed."""
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

    Theorem 2 there: the mean of ‖∇F‖² is O(1/T), and linear where F is gradient dominated
    (Theorem 3). Where each sample has its own x, D_x and D_v are exact, and only D_θ is
    remembered. The memory holds a direction for every pair of batches. Options: see
    :class:`~bilevel.learn.algorithms.single_loop.SingleLoop`.

    Example:
        >>> SABA(batch_size=4).decay
        0.0
    """

    def remember(self, problem: BilevelProblem, theta: Theta, at: Iterates) -> Packable:
        """The directions of all pairs at the start."""
        pairing = self.pairing(problem)
        draws = (pairing.draw(number) for number in range(pairing.count))
        return Table.of([_noisy(problem, problem.directions(theta, at, d)) for d in draws])

    def advance(self, problem: BilevelProblem, now: Now) -> tuple[Directions, Packable]:
        """Directions of the next pair, corrected."""
        pairing, table = self.pairing(problem), cast(Table, now.memory)
        number = pairing.number(now.t)
        found = problem.directions(now.theta, now.at, pairing.draw(number))
        better = table.corrected(number, _noisy(problem, found))
        x, v = better.pop(_X, found.x), better.pop(_V, found.v)
        found = replace(found, x=x, v=v, theta=better)
        self.move(problem, now, found)
        return found, table


_X, _V = "x ", "v "
"""Names that no parameter has."""


def _noisy(problem: BilevelProblem, found: Directions) -> dict[str, Tensor]:
    """The directions that depend on the batch drawn."""
    if problem.separable:
        return dict(found.theta)
    return {**found.theta, _X: found.x, _V: found.v}
