"""One call: a weight for every image of a batch, by the rule asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.select.choice import Choice, Curve, Outcome
from bilevel.select.corner import find_corner
from bilevel.select.path import Path
from bilevel.select.rule import Goal, Rule
from bilevel.select.search import Found, find_minimum, find_root
from bilevel.solve import Solution, Solver, Status

__all__ = ["accuracy_for", "select", "span_of"]

ACCURACY = 1e-3
"""Of the contrast of the start: the accuracy of reconstructions unless another is asked for."""
FLAT = 1e-6
"""A criterion that changes by no larger part over the whole range is flat."""


def select(
    energy: Variational,
    y: Tensor,
    rule: Rule,
    *,
    span: tuple[float, float] | None = None,
    accuracy: float | None = None,
    width: float = 0.02,
    solver: Solver[Any] | None = None,
    record: Callable[[Tensor, Tensor], None] | None = None,
) -> Choice:
    """A weight w_k of the regulariser for each image: x_k = argmin Ψ(A x; y_k) + w_k R(x).

    All rows are solved together; every solve starts from those at the nearest weights.

    Args:
        energy: Ψ and R, smooth. w multiplies R as it is: give R a weight of 1.
        y: data, (b, c', h', w').
        rule: from ``select.rules``.
        span: range of weights; where none is given, :func:`span_of` each row.
        accuracy: of the reconstructions [grey value]; 1e-3 of the contrast if None.
        width: the interval in log w that is small enough [1].
        solver: of the lower level; L-BFGS if None.
        record: called with every weight tried and its criterion, those of the rows still sought.

    Returns:
        The choice; rows whose criterion has no root or minimum inside the range say so.

    Raises:
        InputError: a rule that does not apply to such data, data that do not fit.

    Example:
        >>> import bilevel as bl
        >>> from bilevel.select import select
        >>> truth = torch.ones(1, 1, 16, 16).double()
        >>> truth[..., 8:] = 0
        >>> y = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
        >>> tv = bl.regularisers.TotalVariation(1.0, 0.01).double()
        >>> energy = bl.Variational(bl.fidelities.SquaredL2().double(), tv)
        >>> choice = select(energy, y, bl.rules.Discrepancy(sigma=0.1))
        >>> round(float((choice.x - y).square().mean().sqrt()), 3)
        0.1
    """
    began = time.monotonic()
    energy.check(y)
    name, rule = type(rule).__name__, rule.begin(energy, y)
    rule.check(energy, y)
    accuracy = accuracy_for(energy, y) if accuracy is None else accuracy
    low, high = span_of(energy, y) if span is None else _given(span, len(y))
    path = Path(rule.prepare(energy, y), y, accuracy=accuracy, solver=solver)
    weights: list[Tensor] = []
    values: list[Tensor] = []

    def criterion(log: Tensor, index: Tensor) -> Tensor:
        value = rule.value(path.at(log.exp(), index))
        for kept, new in ((weights, log.exp()), (values, value)):
            line = torch.full((len(y),), torch.inf, dtype=torch.float64)
            line[index] = new
            kept.append(line)
        if record is not None:
            record(log.exp(), value)
        return value

    def coordinates(log: Tensor, index: Tensor) -> Tensor:
        if record is not None:
            record(log.exp(), torch.full_like(log, torch.nan))
        return rule.coordinates(path.at(log.exp(), index))

    ends = low.log(), high.log()
    if rule.goal is Goal.CORNER:
        found, grid, angles = find_corner(coordinates, *ends)
        weights, values = list(grid.exp()), list(angles)
    elif rule.goal is Goal.ROOT:
        found = find_root(criterion, *ends, width=width)
    else:
        found = find_minimum(
            criterion, *ends, first=rule.grid, descending=rule.descending, width=width
        )
    path.energy = energy
    point = path.at(found.at.exp())
    found = replace(found, inside=found.inside & rule.stands(point))
    path.cost.seconds += time.monotonic() - began
    curve = Curve.of(weights, values)
    outcome = _outcomes(rule, found, curve, _solved(point.solution))
    advice = [rule.advice(o, float(v)) for o, v in zip(outcome, found.value, strict=True)]
    return Choice(
        rule=name,
        weight=found.at.exp(),
        x=point.x,
        certificate=point.solution.certificate,
        curve=curve,
        outcome=tuple(outcome),
        advice=tuple(advice),
        cost=path.cost,
    )


def accuracy_for(energy: Variational, y: Tensor) -> float:
    """That of reconstructions where none is asked for [grey value]."""
    return ACCURACY * _contrast(energy.start(y))


def span_of(energy: Variational, y: Tensor) -> tuple[Tensor, Tensor]:
    """A range of weights that holds what may be wanted: (b,) each, float64.

    Around s = Ψ(0; y)/R(x_0), the weight at which giving up the data costs as much as keeping all
    detail of the start x_0: from 1e-5 s to 3 s.
    """
    with torch.no_grad():
        x = energy.start(y)
        data = energy.fidelity.forward(torch.zeros_like(x), y).double()
        detail = energy.regulariser.forward(x).double()
    scale = (data / detail).nan_to_num(1.0, 1.0, 1.0)
    scale = torch.where(scale > 0, scale, 1.0).clamp(1e-8, 1e8)
    return 1e-5 * scale, 3 * scale


def _given(span: tuple[float, float], count: int) -> tuple[Tensor, Tensor]:
    low, high = (check_positive(end, "the range of weights") for end in span)
    if not low < high:
        raise InputError("the range of weights must grow", given=span)
    ends = torch.tensor([low, high], dtype=torch.float64)
    return ends[0].expand(count), ends[1].expand(count)


def _contrast(x: Tensor) -> float:
    """Rms of what differs from the mean, of the row with the least that is not 0 [grey value]."""
    away = rows.rms(x - rows.expand(x.flatten(1).mean(1), x)).double()
    seen = away[away > 0]
    return float(seen.min()) if len(seen) else max(float(rows.rms(x).max()), 1e-3)


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


def _solved(solution: Solution) -> Tensor:
    """Rows as accurate as was asked for, or as their floating-point numbers allow."""
    at_floor = (solution.status == Status.STALLED) & solution.certificate.at_floor()
    return solution.converged | at_floor


def _flat(values: Tensor) -> bool:
    """Whether they differ by less than a small part of their size."""
    return len(values) > 1 and float(values.max() - values.min()) <= FLAT * float(
        values.abs().max()
    )
