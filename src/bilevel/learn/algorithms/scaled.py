"""Any algorithm in other units of θ: a step of its own for each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Algorithm, State, Status
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem, directed
from bilevel.learn.scaling import ScaledProblem, resolved
from bilevel.learn.trials import TrialSearch

__all__ = ["Scaled"]


@dataclass(frozen=True)
class ScaledState(Packable):
    """The state of the algorithm in its units, and the evaluation in those of the energy."""

    inner: State
    evaluation: Evaluation

    @property
    def step(self) -> float:
        """Of the algorithm."""
        return self.inner.step

    @property
    def accepted(self) -> bool:
        """By the algorithm."""
        return self.inner.accepted

    @property
    def status(self) -> Status:
        """Of the algorithm."""
        return self.inner.status


@dataclass(frozen=True)
class Scaled(Algorithm[ScaledState]):
    """``algorithm`` for θ′ = θ/s: what it moves by one moves θ by s.

    A step along the gradient is s² times as long as without, one along normalised moments s times.
    Whatever the algorithm proves, tests or limits (first steps, trust radii, ``tol``) is in the
    norm of θ′; θ, gradients and their errors are reported in the units of the energy.
    :func:`~bilevel.learn.scaling.curvature_scales` measures scales.

    Args:
        algorithm: any with steps; the box of a search says its units itself.
        scales: s for names or prefixes of parameters; 1 for all others.

    Raises:
        InputError: a search, or scales that are not positive or of nothing that is learned.

    Example:
        >>> from bilevel.learn.algorithms import MAID
        >>> Scaled(MAID(), {"regulariser.filters": 0.1}).scales
        {'regulariser.filters': 0.1}
    """

    algorithm: Algorithm[Any]
    scales: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        """Nothing that has units of its own."""
        if isinstance(self.algorithm, TrialSearch):
            raise InputError("a search cannot be scaled", advice="change its box instead")

    def init(self, problem: Problem, theta: Theta) -> ScaledState:
        """Of the algorithm, from θ′."""
        scaled = ScaledProblem(directed(problem), self.scales)
        return _told(scaled, self.algorithm.init(scaled, scaled.inward(theta)))

    def step(self, problem: Problem, state: ScaledState) -> ScaledState:
        """Of the algorithm."""
        scaled = ScaledProblem(directed(problem), self.scales)
        return _told(scaled, self.algorithm.step(scaled, state.inner))

    def about(self, problem: Problem) -> str:
        """The algorithm and all scales that are not 1."""
        scales = resolved(self.scales, problem.theta)
        units = ", ".join(f"{name} by {s:g}" for name, s in scales.items() if s != 1)
        return f"{self.algorithm.about(problem)}; scaled: {units or 'nothing'}"


def _told(scaled: ScaledProblem, inner: State) -> ScaledState:
    return ScaledState(inner, scaled.native(inner.evaluation))
