"""Reconstructions along the weights: each starts from those that are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.model import Cost, Variational
from bilevel.model.row_weighted import RowWeighted
from bilevel.select.point import Point
from bilevel.solve import Solution, Solver, Tolerance, minimise
from bilevel.solve.solvers import LBFGS

__all__ = ["Path"]

RESIDUAL = 1e-2
"""Of the accuracy: what ∇J is brought to where no distance can be proved."""
KEPT = 32
"""So many reconstructions of each row are remembered."""


class Path:
    """w -> x_w for every row, with the line through the two nearest weights as start.

    Args:
        energy: Ψ and R, smooth; w multiplies R.
        y: data, (b, c', h', w').
        accuracy: rms distance to the minimiser [grey value]; where strong convexity of 0.01 is not
            proved, the rms of ∇J is brought to 1 % of it: the distance would cost more.
        solver: of the lower level; L-BFGS if None.
        max_steps: limit of each solve.
        rtol: relative residual of linear systems.

    Raises:
        InputError: data that do not fit, an energy that is not smooth.
    """

    def __init__(
        self,
        energy: Variational,
        y: Tensor,
        *,
        accuracy: float,
        solver: Solver[Any] | None = None,
        max_steps: int = 20_000,
        rtol: float = 1e-3,
    ) -> None:
        """No weight yet."""
        self.energy, self.y = energy, y
        self.accuracy = check_positive(accuracy, "the accuracy")
        self.solver: Solver[Any] = LBFGS() if solver is None else solver
        self.max_steps, self.rtol = max_steps, check_positive(rtol, "rtol")
        self.cost = Cost()
        self._logs: list[Tensor] = []
        self._known: list[Tensor] = []

    def at(self, weight: Tensor, index: Tensor | None = None) -> Point:
        """The point of the rows ``index`` (all if None) at their weights, (len(index),) float64."""
        index = torch.arange(len(self.y)) if index is None else index
        objective = RowWeighted(self.energy, self.y[index], weight, self.cost)
        certified = bool((objective.bounds.proved_mu() >= RESIDUAL).all())
        goal = (
            Tolerance(rms=self.accuracy)
            if certified
            else Tolerance(residual=RESIDUAL * self.accuracy)
        )
        start = self._start(objective, weight.log(), index)
        solution = minimise(objective, self.solver, start, tol=goal, max_steps=self.max_steps)
        self._remember(weight.log(), index, solution)
        return Point(self.energy, objective, solution, index, self.rtol)

    def _remember(self, log: Tensor, index: Tensor, solution: Solution) -> None:
        logs = torch.full((len(self.y),), torch.inf, dtype=torch.float64)
        logs[index] = log
        x = solution.x.new_zeros(len(self.y), *solution.x.shape[1:])
        x[index] = solution.x
        self._logs, self._known = [*self._logs, logs][-KEPT:], [*self._known, x][-KEPT:]

    def _start(self, objective: RowWeighted, log: Tensor, index: Tensor) -> Tensor:
        """The value at log w of the parabola or line through the known points nearest to it."""
        x = objective.start()
        if not self._logs:
            return x
        logs, known = torch.stack(self._logs)[:, index], torch.stack(self._known)
        order = (logs - log).abs().argsort(0)[:3]
        weights = interpolation(logs.gather(0, order), log)
        line = torch.zeros_like(x)
        for nearest, weight in zip(order, weights, strict=True):
            line = line + rows.expand(weight.to(x), x) * known[nearest, index]
        return torch.where(rows.expand(weights.sum(0) > 0, x), line, x)


def interpolation(nodes: Tensor, at: Tensor) -> Tensor:
    """Lagrange weights (n, b) of up to three nodes, sorted by distance; inf stands for no node.

    Between the nodes all of them count, outside only the nearest two, and these no further than
    their distance; where none is known all weights are 0.
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
    between = (nodes.amin(0) < at) & (at < nodes.amax(0))
    between &= (a != b) & (b != c) & (a != c)
    parabola = torch.stack(
        [b * c / ((a - b) * (a - c)), a * c / ((b - a) * (b - c)), a * b / ((c - a) * (c - b))]
    )
    return torch.where(between, parabola, weights)
