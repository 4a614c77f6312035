"""Nesterov's extrapolation of projected steps, with restart."""

from __future__ import annotations

from dataclasses import dataclass

from bilevel.ground import theta as algebra
from bilevel.ground.momentum import growing
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.problem import Problem

__all__ = ["Momentum"]


@dataclass(frozen=True)
class Momentum(Packable):
    """The last projected step ended at ``theta``, the ``count``-th since the last restart.

    Gradients are taken at extrapolated points ζ, which are projected too.

    Source: Nesterov 1983; restart where the step points against the motion: O'Donoghue and Candès
    2015, Section 3.2.

    Example:
        >>> import torch, bilevel as bl
        >>> pairs = bl.data.Pairs(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ("one",))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> name = next(iter(problem.theta))
        >>> moving = Momentum({name: torch.tensor(0.0)}, count=3)
        >>> ahead, _ = moving.onward(problem, {name: torch.tensor(1.0)}, {name: torch.tensor(2.0)})
        >>> float(ahead[name])
        3.0
    """

    theta: Theta
    count: int = 0

    def onward(self, problem: Problem, at: Theta, reached: Theta) -> tuple[Theta, Momentum]:
        """The next ζ after the step from ζ = ``at`` to ``reached``, and the momentum there."""
        move = algebra.add(reached, self.theta, -1.0)
        if algebra.inner(algebra.add(at, reached, -1.0), move) > 0:
            return reached, Momentum(reached, 1)
        ahead = algebra.add(reached, move, growing(self.count))
        return problem.space.project(ahead), Momentum(reached, self.count + 1)
