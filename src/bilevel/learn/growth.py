"""Whether learning made the loss grow, or ended on a plateau, where its values do not tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, variance

from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Trial, normalised_step
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem
from bilevel.learn.record import Record

__all__ = ["grown", "little", "lower", "told"]

_FRACTION, _SHARE = 1e-3, 0.01
"""Accuracy of the looks relative to the first residual; growth relative to the loss's scale."""
_NEAR, _FAR, _FARTHEST = 1.0, 8.0, 16.0
"""Changes of an entry of θ, within which a plateau ends; and while the loss stays the same."""
_BATCHES = 8
"""Lines that a mean of batches is taken of, at least."""
_STEPS = 1000
"""Of the lower level for each look, at most: a network is not trained to the end for it."""


def told(lines: Sequence[Record]) -> bool:
    """Whether the history says that the loss fell, by more than the corrections of its values.

    By its first and last line where both looked at all samples at that very θ, and the last one
    solved them. Where they did not, by the means of the first and of the last tenth, of eight
    batches each at least, all solved, which differ by three standard errors. Without a gradient
    there is no correction, and nothing is told.
    """
    whole = lines[0].whole and lines[-1].whole
    count = 1 if whole else len(lines) // 10
    if not (whole or count >= _BATCHES):
        return False
    before, after = lines[:count], lines[-count:]
    solved = all(line.uncertified == 0 for line in (after if whole else (*before, *after)))
    if not (solved and all(math.isfinite(line.gradient_norm) for line in (*before, *after))):
        return False
    highest = [max(line.value, line.corrected) for line in after]
    least = [min(line.value, line.corrected) for line in before]
    if whole:
        return highest <= least
    spread = math.sqrt((variance(least) + variance(highest)) / count)
    return mean(highest) < mean(least) - 3 * spread


def little(first: Record, last: Record) -> bool:
    """Whether the loss has fallen by less than a hundredth of its scale, or not known to."""
    return not last.value < first.value - _SHARE * first.scale


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
    with problem.level.forgetting(_STEPS):
        accuracy = problem.first_accuracy(begin, _FRACTION)
        before, after = (_looked(problem, theta, accuracy).value for theta in (begin, end))
    most = before + _SHARE * problem.loss.scale(before)
    return math.isfinite(before) and not after <= most


def lower(problem: Problem, at: Evaluation) -> bool:
    """Whether the loss falls by a hundredth far down the gradient at ``at``, as from a plateau.

    θ is moved along the gradient until one of its entries has changed by 1, 2, 4 and 8: for the
    logarithm of a weight these are factors of 3 to 3000; and on by 4 each, up to 16, while the loss
    stays the same to a hundredth. Looks as those of :func:`grown`; one that missed its accuracy
    counts for nothing.

    Example:
        >>> import torch, bilevel as bl
        >>> truth = bl.data.shepp_logan(16)
        >>> noise = bl.data.GaussianNoise(0.1)
        >>> pairs = bl.data.simulate(truth, bl.operators.Identity(), noise)
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1e-4))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> lower(problem, problem.value_and_grad(problem.theta, tol=1e-6))
        True
    """
    if not (at.finite and at.grad):
        return False
    with problem.level.forgetting(_STEPS):
        accuracy = problem.first_accuracy(at.theta, _FRACTION)
        here = _looked(problem, at.theta, accuracy)
        little, change, flat = _SHARE * problem.loss.scale(here.value), _NEAR, True
        while change <= _FAR or (flat and change <= _FARTHEST):
            step = normalised_step(at.grad, change)
            there = _looked(problem, Trial.along(problem, at, step).theta, accuracy)
            solved = there.finite and there.uncertified == 0
            if solved and there.value < here.value - little:
                return True
            flat = solved and there.value <= here.value + little
            change += min(change, _FAR / 2)
    return False


def _looked(problem: Problem, theta: Theta, accuracy: float) -> Evaluation:
    """At the first samples, from where reconstructions start."""
    return problem.look(theta, tol=accuracy, ids=problem.few())[0]
