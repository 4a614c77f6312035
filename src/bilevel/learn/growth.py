"""Whether learning made the loss grow, where its own values do not tell."""

from __future__ import annotations

import math

from bilevel.ground.theta import Theta
from bilevel.learn.level import Memory
from bilevel.learn.problem import Problem
from bilevel.learn.record import Record
from bilevel.model import Cost

__all__ = ["grown", "told"]

_FRACTION, _SHARE = 1e-3, 0.01
"""Accuracy of the looks relative to the first residual; growth relative to the loss's scale."""
_STEPS = 1000
"""Of the lower level for each look, at most: a network is not trained to the end for it."""


def told(first: Record, last: Record) -> bool:
    """Whether two lines say that the loss fell, by more than the corrections of their values.

    They must have looked at all samples at that very θ and solved them. Without a gradient there
    is no correction, and nothing is told.
    """
    known = first.whole and last.whole and last.uncertified == 0
    with_gradient = math.isfinite(first.gradient_norm) and math.isfinite(last.gradient_norm)
    fallen = max(last.value, last.corrected) <= min(first.value, first.corrected)
    return known and with_gradient and fallen


def grown(problem: Problem, begin: Theta, end: Theta) -> bool:
    """Whether the loss at ``end`` exceeds that at ``begin`` by a hundredth, or is no number.

    By a look at both at equal accuracy, within 1000 steps of the lower level, on the first 64
    samples at most, from where reconstructions start when the fit is used. What the problem
    remembers, and its cost, are left as they were.

    Example:
        >>> import torch, bilevel as bl
        >>> pairs = bl.data.Pairs(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ("one",))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> heavier = {name: value + 1 for name, value in problem.theta.items()}
        >>> grown(problem, problem.theta, heavier), grown(problem, heavier, problem.theta)
        (True, False)
    """
    level, memory, cost = problem.level, problem.memory, problem.cost + Cost()
    limit, level.max_steps = level.max_steps, min(level.max_steps, _STEPS)
    ids = problem.few()
    try:
        accuracy = problem.first_accuracy(begin, _FRACTION)
        values: list[float] = []
        for theta in (begin, end):
            problem.memory = Memory(None, memory.q)
            values.append(problem.look(theta, tol=accuracy, ids=ids)[0].value)
    finally:
        problem.memory, level.max_steps = memory, limit
        level.ledger.restart(cost)
    before, after = values
    most = before + _SHARE * problem.loss.scale(before)
    return math.isfinite(before) and not after <= most
