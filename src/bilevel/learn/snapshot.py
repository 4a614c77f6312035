"""What is needed to go on where a fit ended, bit for bit."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Algorithm, State
from bilevel.learn.problem import BilevelProblem, Memory

__all__ = ["Snapshot"]


@dataclass(frozen=True)
class Snapshot(Packable):
    """The state of an algorithm, and what its problem remembers of the samples.

    Algorithms draw their random numbers from a seed and the number of the step, so that the
    state is all there is.
    """

    algorithm: str
    state: State
    memory: Memory
    records: int
    """Lines of the history up to this state."""
    start: Theta
    """θ of the first look, projected."""
    samples: str
    """Fingerprint of the samples."""

    @staticmethod
    def of(
        algorithm: Algorithm[Any],
        state: State,
        problem: BilevelProblem,
        records: int,
        start: Theta,
    ) -> Snapshot:
        """Not copied: it changes with the problem."""
        memory, samples = problem.memory, problem.fingerprint
        return Snapshot(repr(algorithm), state, memory, records, start, samples)

    def copy(self) -> Snapshot:
        """The same, to keep."""
        return copy.deepcopy(self)

    def restore(self, algorithm: Algorithm[Any], problem: BilevelProblem) -> State:
        """The state for ``algorithm``, and its memory back into ``problem``.

        Raises:
            InputError: another algorithm, other options or another problem.
        """
        if repr(algorithm) != self.algorithm:
            advice = "continue with the same algorithm and options, or start anew from fit.theta"
            raise InputError(
                f"the fit was made by {self.algorithm}", given=repr(algorithm), advice=advice
            )
        if problem.fingerprint != self.samples:
            advice = "continue with the samples of the fit, or start anew from fit.theta"
            raise InputError("the fit was learned from other samples", advice=advice)
        names = list(self.state.evaluation.theta)
        if names != list(problem.theta):
            raise InputError(
                f"the fit learned {names}", given=f"a problem of {list(problem.theta)}"
            )
        again = self.copy()
        problem.memory = again.memory
        return again.state
