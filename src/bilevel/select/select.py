"""One call: a weight for every image of a batch, by the rule asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.contrast import contrasts
from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.model.term import parts_of
from bilevel.risk.noise import gradient_of
from bilevel.select.choice import Choice
from bilevel.select.group import Search
from bilevel.select.point import TOGETHER
from bilevel.select.rule import Rule
from bilevel.solve import Solver

__all__ = ["accuracy_for", "check_choosable", "check_span", "groups", "select", "span_of"]

ACCURACY = 2.5e-4
"""Of the least contrast: the accuracy of reconstructions unless another is asked for."""


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

    Rows are solved together, as many as suit the memory; every solve starts from those at the
    nearest weights.

    Args:
        energy: Ψ and R. w multiplies R as it is: give R a weight of 1. R may have a box, for
            positivity for one, which w leaves alone, and terms without a gradient.
        y: data, (b, c', h', w').
        rule: from ``select.rules``.
        span: range of weights; where none is given, :func:`span_of` each row.
        accuracy: of the reconstructions [grey value]; 2.5e-4 of the least contrast of all if None.
        width: the interval in log w that is small enough [1].
        solver: of the lower level; if None the one that fits, L-BFGS for smooth energies.
        record: called with every weight tried and its criterion, those of the rows still sought.

    Returns:
        The choice; rows whose criterion has no root or minimum inside the range say so.

    Raises:
        InputError: a rule that does not apply to such data, data that do not fit, a regulariser
            with further channels.

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
    check_choosable(energy)
    energy.check(y)
    energy.settle(y)
    rule.check(energy, y)
    if rule.blind:
        gradient_of(energy, y)
    name, rule = type(rule).__name__, rule.begin(energy, y)
    accuracy = accuracy_for(energy, y) if accuracy is None else accuracy
    low, high = span_of(energy, y) if span is None else _given(check_span(span), len(y))
    search = Search(
        energy, rule.prepare(energy, y), y, rule, accuracy, width, solver, record or _unheard
    )
    parts = [
        search.among(group, low[group].log(), high[group].log()) for group in groups(energy, y)
    ]
    choice = Choice.join(name, parts)
    choice.cost.seconds = time.monotonic() - began
    return choice


def check_choosable(energy: Variational) -> None:
    """A regulariser of the image alone, whose weight may differ from row to row.

    Raises:
        InputError: one with further channels.
    """
    for part in parts_of(energy.regulariser):
        if part.further:
            raise InputError(
                "rules choose the weight of regularisers of the image alone",
                given=f"{type(part).__name__} with {part.further} further for each channel",
                advice="learn its weight, without truth by a [criterion] (bl.UnsupervisedProblem)",
            )


def groups(energy: Variational, y: Tensor) -> list[Tensor]:
    """Numbers of rows that are searched together: as many as suit caches and memory."""
    together = max(1, TOGETHER // energy.start(y[:1]).numel())
    firsts = range(0, len(y), together)
    return [torch.arange(first, min(first + together, len(y))) for first in firsts]


def _unheard(weight: Tensor, value: Tensor) -> None:
    del weight, value


def accuracy_for(energy: Variational, y: Tensor) -> float:
    """That of reconstructions where none is asked for [grey value]."""
    found = contrasts(energy.start(y).detach())
    seen = found[found > 0]
    return ACCURACY * (float(seen.min()) if len(seen) else energy.contrast(y))


def span_of(energy: Variational, y: Tensor) -> tuple[Tensor, Tensor]:
    """A range of weights that holds what may be wanted: (b,) each, float64.

    Around s = Ψ(c; y)/R(x_0), the weight at which giving up the data for their mean, an image of
    one grey value c, costs as much as keeping all detail of the start x_0: from 3e-5 s to 15 s.
    The start lies in the box.
    """
    x = energy.at(y).start()
    with torch.no_grad():
        flat = rows.expand(x.flatten(1).mean(1), x).expand_as(x)
        data = energy.fidelity.forward(flat, y).double()
        detail = energy.regulariser.forward(x).double()
    scale = (data / detail).nan_to_num(1.0, 1.0, 1.0)
    scale = torch.where(scale > 0, scale, 1.0)
    return 3e-5 * scale, 15 * scale


def check_span(span: tuple[float, float]) -> tuple[float, float]:
    """A range of weights whose ends are positive and finite, and grow."""
    low, high = (check_positive(end, "the range of weights") for end in span)
    if not low < high:
        raise InputError("the range of weights must grow", given=span)
    return low, high


def _given(span: tuple[float, float], count: int) -> tuple[Tensor, Tensor]:
    ends = torch.tensor(span, dtype=torch.float64)
    return ends[0].expand(count), ends[1].expand(count)
