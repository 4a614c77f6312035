"""THE loop of the upper level: steps, records, budget, and an end that is always usable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bilevel.ground.checks import check_finite, check_matching
from bilevel.ground.errors import InputError, nearest
from bilevel.ground.theta import Theta, bind
from bilevel.learn.algorithm import Algorithm, State, Status
from bilevel.learn.algorithms.maid import MAID
from bilevel.learn.budget import Budget
from bilevel.learn.fit import Fit
from bilevel.learn.problem import BilevelProblem, BudgetExhausted
from bilevel.learn.record import Record
from bilevel.model import Cost

__all__ = ["learn"]


def learn(
    problem: BilevelProblem,
    algorithm: Algorithm[Any] | None = None,
    theta0: Theta | None = None,
    *,
    budget: Budget,
    record: Callable[[Record], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Fit:
    """Learn θ from ``theta0`` (the energy's own values if None) within ``budget``.

    Ctrl-C ends with the last θ that was accepted, as does the budget, which is looked at between
    evaluations. With ``checkpoint`` the fit is also saved there, before and after every step.

    Args:
        problem: what to minimise.
        algorithm: accelerated MAID if None.
        theta0: projected onto the admissible set first.
        budget: limits of this call.
        record: called with every new line of the history.
        checkpoint: folder for the fit so far.

    Raises:
        InputError: ``theta0`` does not fit or is not finite.

    Example:
        >>> import torch, bilevel as bl
        >>> images = bl.data.shepp_logan(16).repeat(2, 1, 1, 1)
        >>> pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.01))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> fit = bl.learn(problem, budget=bl.Budget(steps=3))
        >>> fit.history[-1].value < fit.history[0].value
        True
    """
    run = _Run(problem, record, checkpoint, problem.theta if theta0 is None else theta0)
    return run(MAID(accelerated=True) if algorithm is None else algorithm, budget)


class _Run:
    """One call of ``learn``."""

    def __init__(
        self,
        problem: BilevelProblem,
        record: Callable[[Record], None] | None,
        checkpoint: str | Path | None,
        theta0: Theta,
    ) -> None:
        for name, value in theta0.items():
            if name not in problem.theta:
                advice = nearest(name, problem.theta)
                raise InputError(f"theta0 has no learnable parameter '{name}'", advice=advice)
            check_matching(value, f"theta0['{name}']", problem.theta[name], "the energy")
            check_finite(value, f"theta0['{name}']")
        bind(problem.energy, theta0)
        self.problem, self.record, self.checkpoint = problem, record, checkpoint
        self.theta = problem.space.project({**problem.theta, **theta0})
        self.history: list[Record] = []

    def __call__(self, algorithm: Algorithm[Any], budget: Budget) -> Fit:
        self.problem.cost = Cost()
        self._save()
        self.problem.budget = budget
        try:
            status = self._loop(algorithm, budget)
        except BudgetExhausted:
            status = Status.BUDGET
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        finally:
            self.problem.budget = None
        return self._finish(status)

    def _loop(self, algorithm: Algorithm[Any], budget: Budget) -> Status:
        state: State = algorithm.init(self.problem, self.theta)
        self._note(state)
        while state.status is Status.RUNNING:
            if budget.exceeded(self.problem.cost, len(self.history) - 1):
                return Status.BUDGET
            state = algorithm.step(self.problem, state)
            self._note(state)
        return state.status

    def _note(self, state: State) -> None:
        problem, at = self.problem, state.evaluation
        if at.finite:
            self.theta = at.theta
        self.history.append(Record.of(len(self.history), state, problem.loss, problem.cost))
        if self.record is not None:
            self.record(self.history[-1])
        self._save()

    def _save(self) -> None:
        if self.checkpoint is not None:
            self._finish(Status.RUNNING).save(self.checkpoint)

    def _finish(self, status: Status) -> Fit:
        problem, cost = self.problem, self.problem.cost + Cost()
        unit = problem.loss.unit
        return Fit.of(problem.energy, self.theta, self.history, status, cost, unit)
