"""Searches: one trial a step in a box of scalar parameters, and the best one so far."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError, nearest
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta, add
from bilevel.ground.theta import norm as theta_norm
from bilevel.learn.algorithm import Algorithm, Status
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.problem import Problem
from bilevel.solve.policy import USUAL

__all__ = ["Box", "TrialSearch", "TrialState"]

Box = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class TrialState(Packable):
    """The best so far, and all trials: ``points`` (t, d) in the order of the box, ``values`` (t,).

    ``step`` is how far the last trial lay from the best one before it.
    """

    evaluation: Evaluation
    points: Tensor
    values: Tensor
    step: float = 0.0
    accepted: bool = True
    status: Status = Status.RUNNING


@dataclass(frozen=True)
class TrialSearch(Algorithm[TrialState]):
    """Base of the searches. The start is looked at first; no gradient is ever computed.

    A trial where more than a twentieth of the samples miss their accuracy, and more than at the
    best so far, is not taken: its loss means nothing.
    """

    box: Box = field(default_factory=dict[str, tuple[float, float]])
    accuracy: float | None = None

    def __post_init__(self) -> None:
        """Intervals that are not empty."""
        if not self.box:
            advice = "e.g. {'regulariser.log_weight': (-7.0, 0.0)}"
            raise InputError("a search needs a box {name: (low, high)}", advice=advice)
        for name, (low, high) in self.box.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                what = f"the interval of '{name}' must be finite with low < high"
                raise InputError(what, given=(low, high))
        if self.accuracy is not None:
            check_positive(self.accuracy, "accuracy")

    @property
    @abstractmethod
    def count(self) -> int:
        """How many trials there are."""

    @abstractmethod
    def point(self, points: Tensor, values: Tensor) -> Tensor:
        """The next trial, (d,), after these ones."""

    def init(self, problem: Problem, theta: Theta) -> TrialState:
        """Look at θ_0.

        Raises:
            InputError: names in the box that are no scalar parameters.
        """
        scalars = [name for name, value in theta.items() if value.numel() == 1]
        for name in self.box:
            if name not in scalars:
                what = f"the box names '{name}', which is no scalar parameter that is learned"
                raise InputError(what, advice=nearest(name, scalars) if scalars else None)
        at = problem.look(theta, tol=self.fineness(problem))[0]
        none = torch.zeros(0, dtype=torch.float64)
        return TrialState(at, none.view(0, len(self.box)), none)

    def step(self, problem: Problem, state: TrialState) -> TrialState:
        """One trial."""
        at = state.evaluation
        point = self.point(state.points, state.values)
        chosen = {
            k: torch.full_like(at.theta[k], float(v)) for k, v in zip(self.box, point, strict=True)
        }
        theta = problem.space.project({**at.theta, **chosen})
        new = problem.look(theta, tol=self.fineness(problem))[0]
        solved = new.uncertified <= max(at.uncertified, new.samples // 20)
        better = (solved and new.value < at.value) or not at.finite
        values = torch.cat([state.values, torch.tensor([new.value], dtype=torch.float64)])
        return replace(
            state,
            evaluation=new if better else at,
            points=torch.cat([state.points, point[None]]),
            values=values,
            step=theta_norm(add(theta, at.theta, -1.0)),
            accepted=better,
            status=Status.RUNNING if len(values) < self.count else Status.EXHAUSTED,
        )

    def fineness(self, problem: Problem) -> float:
        """The accuracy of the lower level, 1e-3 of the contrast if none is given [grey value]."""
        return USUAL * problem.contrast if self.accuracy is None else self.accuracy

    def scaled(self, unit: Tensor) -> Tensor:
        """From the unit cube into the box."""
        low, high = torch.tensor(list(self.box.values()), dtype=torch.float64).T
        return low + unit * (high - low)
