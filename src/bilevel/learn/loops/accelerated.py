"""Single loops that take several accelerated steps of x and v before one of θ."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bilevel.ground.checks import check_count
from bilevel.ground.errors import InputError
from bilevel.learn.directions import Directions, Draw
from bilevel.learn.loops.following import approach
from bilevel.learn.loops.single_loop import Now, SingleLoop
from bilevel.learn.problem import DirectedProblem

__all__ = ["Accelerated"]

_STEPS = 8


@dataclass(frozen=True)
class Accelerated(SingleLoop):
    """x and v of the samples drawn come near before D_θ is looked at.

    Args:
        inner_steps: of x and v before θ moves. All but the last, which all three take at once, are
            accelerated: those of x by momentum, those of v by conjugate gradients. As this asks for
            exact directions, None takes 8 where each sample has its own x, and 1, as in the papers,
            where they share it.

    Raises:
        InputError: ``inner_steps`` below 1, or above where samples share their x.
    """

    inner_steps: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_count(self.inner_steps, "inner_steps")

    def first(self, problem: DirectedProblem) -> Tensor | None:
        """Those of the first draw, since others come near when they are drawn."""
        return self.pairing(problem).draw(0).inner if problem.separable else None

    def look(self, problem: DirectedProblem, now: Now, draw: Draw) -> Directions:
        """The directions of the samples drawn, after all steps of x and v but the last."""
        return self.trusted(problem, now, self.approached(problem, now, draw))

    def approached(self, problem: DirectedProblem, now: Now, draw: Draw) -> Directions:
        """As :meth:`look`, whatever trust they deserve."""
        if problem.separable:
            steps = _STEPS if self.inner_steps is None else self.inner_steps
            factor = self.factor(problem, now.t)
            approach(problem, now.theta, now.at, draw, steps - 1, factor)
        elif self.inner_steps is not None and self.inner_steps > 1:
            advice = "use AmIGO, or inner_steps=None"
            raise InputError(
                "inner_steps must be 1 where samples share x", given=self.inner_steps, advice=advice
            )
        return problem.directions(now.theta, now.at, draw)
