"""Reconstructions along the weights: each starts from those that are known."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.model import Cost, Variational
from bilevel.model.kinds import has_dual
from bilevel.model.row_weighted import RowWeighted
from bilevel.select.point import Point
from bilevel.select.trail import Trail
from bilevel.solve import Solver, minimise
from bilevel.solve.policy import CHOOSING
from bilevel.solve.solvers import frugal

__all__ = ["Path"]


class Path:
    """w -> x_w for every row; solves start from what the nearest weights tell.

    Args:
        energy: Ψ and R; w multiplies R, but no box in it.
        y: data, (b, c', h', w').
        accuracy: rms distance to the minimiser [grey value]; where strong convexity of 0.01 is not
            proved, the rms of ∇J is brought to 3 % of it, and the residual of saddle problems to
            30 % (:data:`~bilevel.solve.policy.CHOOSING`).
        solver: of the lower level; if None the one that fits, L-BFGS for smooth energies.
        max_steps: limit of each solve.
        rtol: relative residual of linear systems.
        rows: those of the batch that are asked for, one after the other; all if None.

    Raises:
        InputError: data that do not fit, rows of other paths.
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
        rows: Tensor | None = None,
    ) -> None:
        """No weight yet."""
        energy.settle(y)
        self.energy, self.y = energy, y
        self.accuracy = check_positive(accuracy, "the accuracy")
        self.solver = solver
        self.max_steps, self.rtol = max_steps, check_positive(rtol, "rtol")
        self.cost = Cost()
        self.rows = torch.arange(len(y)) if rows is None else rows
        self._stiffness = energy.stiffness(energy.contrast(y))
        self._solutions = Trail(self.rows)
        self._responses: dict[int, Trail] = defaultdict(lambda: Trail(self.rows))

    def at(self, weight: Tensor, index: Tensor | None = None) -> Point:
        """The point of the rows ``index`` (all if None) at their weights, (len(index),) float64."""
        index = self.rows if index is None else index
        if not bool(torch.isin(index, self.rows).all()):
            raise InputError("this path knows other rows", given=str(index))
        weighted = RowWeighted(self.energy, weight)
        objective = weighted.at(self.y[index], cost=self.cost)
        unit = self._stiffness
        goal = CHOOSING.tolerance(objective, self.accuracy, dtype=self.y.dtype, stiffness=unit)
        start = self._solutions.at(weight.log(), index, objective.start())
        solution = minimise(
            objective,
            frugal(objective) if self.solver is None else self.solver,
            start,
            tol=goal,
            max_steps=self.max_steps,
            keep_state=has_dual(objective),
        )
        self._solutions.add(weight.log(), index, solution.x)
        return Point(weighted, weight, objective, solution, index, self.rtol, self._responses)
