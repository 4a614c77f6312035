"""What is needed to go on where a fit ended, bit for bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Algorithm, State, Status
from bilevel.learn.identity import Identity
from bilevel.learn.level import Memory
from bilevel.learn.problem import Problem
from bilevel.learn.record import Record

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
    theta: Theta
    """The last θ with a finite loss and gradient."""
    problem: Identity
    """What was learned, with ``start`` as the reference."""

    def copy(self) -> Snapshot:
        """The same, to keep."""
        return copy.deepcopy(self)

    def check(self, history: Sequence[Record]) -> None:
        """Whether this is the state after the first lines of ``history``.

        Raises:
            InputError: it is that of another fit, or of a later one.
        """
        value = self.state.evaluation.value
        if not 0 < self.records <= len(history):
            raise InputError(f"the state is after {self.records} lines", given=len(history))
        line = history[self.records - 1].value
        if value != line and not (math.isnan(value) and math.isnan(line)):
            raise InputError(f"the state has loss {value:.6g}", given=f"{line:.6g} in the history")

    def restore(self, algorithm: Algorithm[Any], problem: Problem) -> State:
        """The state for ``algorithm``, and its memory back into ``problem``.

        Raises:
            InputError: another algorithm, other options or another problem; what differs.
        """
        anew = "or start anew from theta0=fit.theta"
        if repr(algorithm) != self.algorithm:
            advice = f"continue with the same algorithm and options, {anew}"
            raise InputError(
                f"the fit was made by {self.algorithm}", given=repr(algorithm), advice=advice
            )
        self._check_theta(problem)
        found = self.problem.difference(problem.identity(self.start))
        if found is not None:
            name, before, now = found
            advice = f"continue with the problem of the fit, {anew}"
            raise InputError(
                f"the fit was learned with {name} = {before}", given=now, advice=advice
            )
        running = self.state.status is Status.RUNNING
        if running and not self.memory.finite:
            raise InputError("the state of the fit holds NaN or infinite values", advice=anew[3:])
        again = self.copy()
        problem.memory = again.memory
        return again.state

    def _check_theta(self, problem: Problem) -> None:
        names = list(self.start)
        if names != list(problem.theta):
            raise InputError(
                f"the fit learned {names}", given=f"a problem of {list(problem.theta)}"
            )
        for name, value in problem.theta.items():
            for theta in (self.start, self.theta, self.state.evaluation.theta):
                same = name in theta and _kind(theta[name]) == _kind(value)
                if not same:
                    given = f"{_kind(theta[name])}" if name in theta else "nothing"
                    raise InputError(f"'{name}' of the fit must be {_kind(value)}", given=given)


def _kind(value: Tensor) -> str:
    return f"{value.dtype} {tuple(value.shape)}"
