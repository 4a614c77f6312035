"""Several algorithms on one problem at equal budget, judged at one common accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import BilevelError, InputError
from bilevel.ground.theta import Theta
from bilevel.learn.algorithm import Algorithm, State, Status, projected_gradient_norm
from bilevel.learn.budget import Budget
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.fit import Fit
from bilevel.learn.learn import learn
from bilevel.learn.problem import Problem
from bilevel.learn.record import Record

__all__ = ["Entry", "Race", "Watch", "race"]

CLOSE = 0.01
"""Losses that differ by less, relative to their scale, count as equally good."""
_TIGHT, _TIGHTEST = 1e-4, 1e-5

Watch = Callable[[str], AbstractContextManager[Callable[[Record], None] | None]]


@dataclass(frozen=True)
class Entry:
    """One algorithm: how it went, and its θ looked at with the accuracy common to all."""

    name: str
    fit: Fit
    final: Evaluation
    projected: float
    """Norm of the projected gradient of ``final``."""
    path: tuple[float, ...]
    """Losses at the θ of every line of the history, all looked at with the common accuracy."""

    @property
    def upper(self) -> float:
        """No loss above this one is possible; inf where nothing is proved."""
        return self.final.corrected + self.final.interval

    @property
    def work(self) -> int:
        """Gradient evaluations and Hessian-vector products."""
        return work(self.fit.history[-1])

    def arrival(self, level: float) -> Record | None:
        """The line of the history from which on the loss stayed at or below ``level``.

        By the looks afterwards: what a line says of itself may be of some samples only, a running
        mean, or of another accuracy.
        """
        above = [k for k, loss in enumerate(self.path) if not loss <= level]
        first = above[-1] + 1 if above else 0
        return self.fit.history[first] if first < len(self.path) else None


@dataclass(frozen=True)
class Race:
    """What came out: algorithms in the order in which they ran."""

    entries: tuple[Entry, ...]
    accuracy: float
    """Of the lower level at the final looks, rms [grey value]."""
    scale: float
    """The change of the loss that counts as large."""
    budget: Budget
    failures: Mapping[str, str] = field(default_factory=dict[str, str])
    """Algorithms that could not run, and why."""
    interrupted: bool = False

    @property
    def ranked(self) -> tuple[Entry, ...]:
        """From the lowest final loss: its proved upper end where all have one."""
        sound = [e for e in self.entries if e.final.finite]
        proved = all(math.isfinite(e.upper) for e in sound)
        return tuple(sorted(sound, key=lambda e: e.upper if proved else e.final.corrected))

    @property
    def best(self) -> Entry:
        """The one with the lowest final loss.

        Raises:
            InputError: no algorithm ended with a finite loss.
        """
        if not self.ranked:
            raise InputError("no algorithm ended with a finite loss", given=dict(self.failures))
        return self.ranked[0]

    @property
    def level(self) -> float:
        """Losses up to here are within 1 % of the best."""
        return self.best.final.corrected + CLOSE * self.scale

    @property
    def close(self) -> tuple[Entry, ...]:
        """Those within 1 % of the lowest loss."""
        level = self.level
        return tuple(e for e in self.ranked if e.final.corrected <= level)

    @property
    def winner(self) -> Entry:
        """Of those within 1 % of the lowest loss, the one that came there with the least work."""
        return min(self.close, key=self.work)

    def work(self, entry: Entry) -> int:
        """Gradient evaluations and products until within 1 % of the best loss; all if never."""
        arrived = entry.arrival(self.level)
        return entry.work if arrived is None else work(arrived)


def work(record: Record) -> int:
    """Gradient evaluations and Hessian-vector products up to a line of a history."""
    return record.cost.gradient_evaluations + record.cost.hvps


def race(
    problem_factory: Callable[[], Problem],
    algorithms: Mapping[str, Algorithm[Any]],
    budget: Budget,
    *,
    accuracy: float | None = None,
    watch: Watch | None = None,
) -> Race:
    """Each algorithm from the same start on a problem of its own, within ``budget`` each.

    Afterwards every θ of every path is looked at with one accuracy of the lower level, on one
    more problem, so that losses can be compared wherever they were reached, whatever the algorithm
    itself looked at. This takes time of its own, which is not counted. Ctrl-C ends the algorithm
    that runs and the race; what was done until then is kept. An algorithm that cannot run is named
    in ``failures``.

    Args:
        problem_factory: makes the same problem again, with nothing solved yet.
        algorithms: by name.
        budget: of each.
        accuracy: of the final looks, rms [grey value]; the tightest that an algorithm asked for
            if None, but between 1e-5 and 1e-4 of the contrast.
        watch: called with each name; its context's value hears every line of the history.

    Raises:
        InputError: no algorithm, or none that could run.

    Example:
        >>> import torch, bilevel as bl
        >>> def problem():
        ...     pairs = bl.data.Pairs(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), ("one",))
        ...     energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        ...     return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> runners = {"maid": bl.algorithms.MAID(), "l-bfgs": bl.algorithms.LBFGS()}
        >>> found = bl.race(problem, runners, bl.Budget(steps=3))
        >>> [entry.name for entry in found.entries]
        ['maid', 'l-bfgs']
    """
    if not algorithms:
        raise InputError("a race needs at least one algorithm", advice="e.g. {'maid': MAID()}")
    if accuracy is not None:
        check_positive(accuracy, "accuracy")
    referee = problem_factory()
    referee.value_and_grad(referee.theta, tol=referee.first_accuracy(referee.theta))  # warms up
    paths: dict[str, list[Theta]] = {}
    fits, failures, interrupted = _fits(problem_factory, algorithms, budget, watch, paths)
    if accuracy is None:
        asked = (r.accuracy for fit in fits.values() for r in fit.history)
        tightest, tight = (share * referee.contrast for share in (_TIGHTEST, _TIGHT))
        accuracy = min(max(min(asked, default=tight), tightest), tight)
    entries: list[Entry] = []
    try:
        for name, fit in fits.items():
            entries.append(_entry(referee, name, fit, paths[name], accuracy))
    except KeyboardInterrupt:
        interrupted = True
    if not entries and not interrupted:
        given = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise InputError("none of the algorithms could run", given=given)
    best = min((e.final.value for e in entries if e.final.finite), default=math.nan)
    scale = referee.loss.scale(best)
    return Race(tuple(entries), accuracy, scale, budget, failures, interrupted)


def _fits(
    problem_factory: Callable[[], Problem],
    algorithms: Mapping[str, Algorithm[Any]],
    budget: Budget,
    watch: Watch | None,
    paths: dict[str, list[Theta]],
) -> tuple[dict[str, Fit], dict[str, str], bool]:
    """The fits that have a history, what failed, and whether Ctrl-C was pressed."""
    fits: dict[str, Fit] = {}
    failures: dict[str, str] = {}
    for name, algorithm in algorithms.items():
        traced = _Traced(algorithm, paths.setdefault(name, []))
        try:
            with nullcontext() if watch is None else watch(name) as record:
                fit = learn(problem_factory(), traced, budget=budget, record=record)
        except BilevelError as error:
            failures[name] = str(error)
            continue
        except KeyboardInterrupt:
            return fits, failures, True
        if fit.history:
            fits[name] = fit
        elif fit.status is not Status.INTERRUPTED:
            failures[name] = "the budget ended before the first look"
        if fit.status is Status.INTERRUPTED:
            return fits, failures, True
    return fits, failures, False


def _entry(
    referee: Problem, name: str, fit: Fit, thetas: Sequence[Theta], accuracy: float
) -> Entry:
    final = referee.value_and_grad(fit.theta, tol=accuracy, estimate=True)
    projected = projected_gradient_norm(referee, final) if final.finite else math.nan
    known, path = fit.theta, [final.corrected]
    for theta in reversed(thetas[: len(fit.history) - 1]):
        if any(not torch.equal(theta[k], known[k]) for k in theta):
            path.append(referee.value_and_grad(theta, tol=accuracy).corrected)
        else:
            path.append(path[-1])
        known = theta
    return Entry(name, fit, final, projected, tuple(reversed(path)))


@dataclass(frozen=True)
class _Traced(Algorithm[Any]):
    """``algorithm``, and the θ of every line of its history."""

    algorithm: Algorithm[Any]
    path: list[Theta]

    def init(self, problem: Problem, theta: Theta) -> State:
        """Of the algorithm."""
        return self._noted(self.algorithm.init(problem, theta))

    def step(self, problem: Problem, state: State) -> State:
        """Of the algorithm."""
        return self._noted(self.algorithm.step(problem, state))

    def about(self, problem: Problem) -> str:
        """As the algorithm."""
        return self.algorithm.about(problem)

    def _noted(self, state: State) -> State:
        self.path.append(state.evaluation.theta)
        return state
