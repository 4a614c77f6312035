"""The algorithm that fits a problem, and why: what is taken unless something else is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bilevel.ground.theta import Theta
from bilevel.learn.accuracy import FROM_DATA, Accuracy
from bilevel.learn.algorithm import Algorithm, State
from bilevel.learn.algorithms.dynamic_sampling import DynamicSampling
from bilevel.learn.algorithms.lbfgs import LBFGS
from bilevel.learn.algorithms.maid import MAID
from bilevel.learn.problem import Problem
from bilevel.model.kinds import has_dual

__all__ = ["Automatic", "Choice", "automatic"]

MANY = 128
"""Samples above which a part of them tells the way at the start."""


@dataclass(frozen=True)
class Choice:
    """An algorithm and the reason for it, in words."""

    algorithm: Algorithm[Any]
    reason: str


def automatic(problem: Problem, options: Automatic | None = None) -> Choice:
    """The algorithm for what the problem is; it needs no step, no ε and no schedule.

    Example:
        >>> import torch, bilevel as bl
        >>> pairs = bl.data.Pairs(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ("one",))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> automatic(bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)).reason
        'L-BFGS: the loss has a derivative, and its curvature is worth more than it costs'
    """
    taken = vars(Automatic() if options is None else options)
    objective = problem.level.example
    if has_dual(objective):
        reason = "accelerated MAID: with dual terms the loss has kinks, where curvature misleads"
        return Choice(MAID(accelerated=True, **taken), reason)
    if problem.separable and len(problem) > MANY:
        reason = (
            f"dynamic sampling: L-BFGS on few of the {len(problem)} samples, and on more where "
            "these no longer tell the way"
        )
        return Choice(DynamicSampling(**taken), reason)
    reason = "L-BFGS: the loss has a derivative, and its curvature is worth more than it costs"
    return Choice(LBFGS(**taken), reason)


@dataclass(frozen=True)
class Automatic(Algorithm[State]):
    """Whatever fits the problem; says what it chose and why.

    Args:
        accuracy: ε_0 and the floor, :class:`~bilevel.learn.accuracy.Accuracy`.
        first_change: how far the first step moves an entry of θ.
        tol: stop when the projected gradient and its error are below ``tol`` times the loss.

    Raises:
        InputError: options that are not positive.

    Example:
        >>> Automatic().tol
        0.003
    """

    accuracy: Accuracy = FROM_DATA
    first_change: float = LBFGS.first_change
    tol: float = LBFGS.tol

    def __post_init__(self) -> None:
        """As the algorithms do."""
        LBFGS(**vars(self))

    def init(self, problem: Problem, theta: Theta) -> State:
        """Of the algorithm chosen."""
        return automatic(problem, self).algorithm.init(problem, theta)

    def step(self, problem: Problem, state: State) -> State:
        """Of the algorithm chosen."""
        return automatic(problem, self).algorithm.step(problem, state)

    def about(self, problem: Problem) -> str:
        """The choice and its reason."""
        return automatic(problem, self).reason
