"""The search for the weights of some rows of a batch, all at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bilevel.model import Variational
from bilevel.model.fidelities import SquaredL2
from bilevel.select.choice import Choice, Curve, Outcome
from bilevel.select.corner import find_corner
from bilevel.select.degrees import Degrees
from bilevel.select.evidence import FEWEST, FRESH, Residuals, contradictions, moved
from bilevel.select.path import Path
from bilevel.select.point import Point
from bilevel.select.rule import CornerRule, Goal, Rule
from bilevel.select.rules.sure import PredictedRisk
from bilevel.select.search import Found, find_minimum, find_root
from bilevel.solve import Solution, Solver, Status

__all__ = ["Search", "solved"]

FLAT = 1e-6
"""A criterion that changes by no larger part over the whole range is flat."""


@dataclass(frozen=True)
class Search:
    """What is sought in which data; see :func:`~bilevel.select.select.select`.

    ``prepared`` is the energy while weights are compared, ``energy`` the one of the last
    reconstruction.
    """

    energy: Variational
    prepared: Variational
    y: Tensor
    rule: Rule
    accuracy: float
    width: float
    solver: Solver[Any] | None
    record: Callable[[Tensor, Tensor], None]

    def among(self, group: Tensor, low: Tensor, high: Tensor) -> Choice:
        """The choice for the rows ``group``, numbers that follow each other.

        Args:
            group: (b,), of rows of the data.
            low: ends of the ranges of log w, (b,) float64.
            high: the other ends.
        """
        path = Path(self.prepared, self.y, accuracy=self.accuracy, solver=self.solver, rows=group)
        found, curve = self._found(path, low, high)
        path.energy = self.energy
        point = path.at(found.at.exp())
        found = replace(found, inside=found.inside & self.rule.stands(point))
        outcome = _outcomes(self.rule, found, curve, solved(point.solution, self.accuracy))
        values = zip(outcome, found.value, strict=True)
        advice = [self.rule.advice(one, float(value)) for one, value in values]
        if self.rule.blind and Outcome.FOUND in outcome:
            for k, doubt in enumerate(self._doubts(path, point)):
                if doubt and outcome[k] is Outcome.FOUND:
                    outcome[k], advice[k] = Outcome.DOUBTFUL, doubt
        return Choice(
            rule=type(self.rule).__name__,
            weight=found.at.exp(),
            x=point.x,
            certificate=point.solution.certificate,
            curve=curve,
            outcome=tuple(outcome),
            advice=tuple(advice),
            cost=path.cost,
        )

    def _doubts(self, path: Path, point: Point) -> list[str]:
        """What speaks against the weight of each row, "" where nothing does."""
        seen = Residuals.at(point) if point.size >= FEWEST else None
        found = contradictions(point, seen, self.rule.level(point))
        fresh = self.rule.fresh()
        if fresh is None and seen is not None and isinstance(self.energy.fidelity, SquaredL2):
            levels = torch.ones(len(self.y), dtype=torch.float64)
            levels[point.index] = seen.level
            fresh = PredictedRisk(levels, Degrees(seed=FRESH))
        if fresh is not None:
            fresh = fresh.begin(self.energy, self.y)
            path.energy = fresh.prepare(self.energy, self.y)
            away = moved(path, fresh, point.weight, point.index)
            text = f"with fresh probes {type(fresh).__name__} prefers a weight far from this one"
            found = [one or (text if far else "") for one, far in zip(found, away, strict=True)]
        return found

    def _found(self, path: Path, low: Tensor, high: Tensor) -> tuple[Found, Curve]:
        weights: list[Tensor] = []
        values: list[Tensor] = []

        def criterion(log: Tensor, index: Tensor) -> Tensor:
            value = self.rule.value(path.at(log.exp(), path.rows[index]))
            for kept, new in ((weights, log.exp()), (values, value)):
                line = torch.full((len(low),), torch.inf, dtype=torch.float64)
                line[index] = new
                kept.append(line)
            self.record(log.exp(), value)
            return value

        if isinstance(self.rule, CornerRule):
            corner = self.rule

            def coordinates(log: Tensor, index: Tensor) -> Tensor:
                self.record(log.exp(), torch.full_like(log, torch.nan))
                return corner.coordinates(path.at(log.exp(), path.rows[index]))

            found, grid, angles = find_corner(coordinates, low, high)
            return found, Curve.of(list(grid.exp()), list(angles))
        if self.rule.goal is Goal.ROOT:
            found = find_root(criterion, low, high, width=self.width)
        else:
            first, descending = self.rule.grid, self.rule.descending
            found = find_minimum(
                criterion, low, high, first=first, descending=descending, width=self.width
            )
        return found, Curve.of(weights, values)


def _outcomes(rule: Rule, found: Found, curve: Curve, solved: Tensor) -> list[Outcome]:
    missed = Outcome.NO_ROOT if rule.goal is Goal.ROOT else Outcome.EDGE
    outcome: list[Outcome] = []
    for k in range(len(found.at)):
        _, values = curve.row(k)
        known = values[values.isfinite()]
        if not bool(solved[k]):
            outcome.append(Outcome.UNSOLVED)
        elif not len(known) or not bool(found.value[k].isfinite()):
            outcome.append(Outcome.UNDEFINED)
        elif rule.goal is Goal.MINIMUM and _flat(known):
            outcome.append(Outcome.FLAT)
        else:
            outcome.append(Outcome.FOUND if bool(found.inside[k]) else missed)
    return outcome


def solved(solution: Solution, accuracy: float) -> Tensor:
    """Rows as accurate as was asked for; rounding may leave the rms of ∇J as large as that."""
    found = solution.certificate
    rounded = (solution.status == Status.STALLED) & found.at_floor() & math.isinf(solution.tol.rms)
    return solution.converged | (rounded & (found.computed <= accuracy))


def _flat(values: Tensor) -> bool:
    """Whether they differ by less than a small part of their size."""
    return len(values) > 1 and float(values.max() - values.min()) <= FLAT * float(
        values.abs().max()
    )
