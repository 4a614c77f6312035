"""THE loop of the upper level: steps, records, budget, and an end that is always usable."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bilevel.ground.checks import check_finite, check_matching
from bilevel.ground.errors import BilevelWarning, InputError, nearest
from bilevel.ground.given import typed
from bilevel.ground.packing import Packable
from bilevel.ground.theta import Theta
from bilevel.learn import checkpoint as disk
from bilevel.learn.algorithm import Algorithm, State, Status, projected_gradient_norm
from bilevel.learn.algorithms.automatic import Automatic
from bilevel.learn.budget import Budget, BudgetExhausted
from bilevel.learn.fit import Fit
from bilevel.learn.growth import grown, little, lower, told
from bilevel.learn.identity import Identity
from bilevel.learn.problem import Problem
from bilevel.learn.record import Record
from bilevel.learn.snapshot import Snapshot
from bilevel.model import Cost, Variational
from bilevel.model.describe import describe

__all__ = ["learn"]


@typed
def learn(
    problem: Problem,
    algorithm: Algorithm[Any] | None = None,
    theta0: Theta | None = None,
    *,
    budget: Budget,
    record: Callable[[Record], None] | None = None,
    checkpoint: str | Path | None = None,
    resume: Fit | None = None,
    configuration: Mapping[str, Any] | None = None,
    source: str = "",
) -> Fit:
    """Learn θ from ``theta0`` (the energy's own values if None) within ``budget``.

    Ctrl-C ends with the last θ that was accepted, as does the budget, which is looked at between
    evaluations. With ``checkpoint`` the fit is also saved there, before the first step, after
    the last, and after others in a fifth of the time at most.

    Where the history does not tell that the loss has fallen (batches, running means, steps that
    nothing guards), a look at the θ of the beginning and of the end does; if it has grown, the
    status is WORSE. Where learning ends for want of a slope and the loss has hardly fallen, looks
    far downhill tell a minimum from a PLATEAU. These looks concern at most the first 64 samples
    and count neither as cost nor towards the budget.

    Args:
        problem: what to minimise.
        algorithm: what :func:`~bilevel.learn.algorithms.automatic` chooses if None.
        theta0: projected onto the admissible set first.
        budget: limits of this call; with ``steps=0`` nothing is evaluated, and θ is as given.
        record: called with every new line of the history.
        checkpoint: folder for the fit so far.
        resume: a fit to go on with, by the same algorithm on the same problem (energy, operator,
            loss, sets and samples): 10 steps and then 10 more equal 20 at once, bit for bit on one
            thread and with the same solver and chunk. ``budget`` counts from here, history and
            costs go on.
        configuration: plain data that the fit is to hold, of its maker, and ...
        source: ... the text that they were read from.

    Raises:
        InputError: ``theta0`` does not fit or is not finite, ``resume`` cannot be continued, or
            there is a ``checkpoint`` and the energy cannot be saved; nothing is learned then.

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
    algorithm = Automatic() if algorithm is None else algorithm
    run = _Run(problem, algorithm, record, checkpoint, dict(configuration or {}), source)
    if resume is None:
        run.begin(problem.theta if theta0 is None else theta0)
    elif theta0 is None:
        run.go_on(resume)
    else:
        raise InputError("give theta0 or resume, not both")
    return run(budget)


_STILL = (Status.CONVERGED, Status.STATIONARY, Status.FLOOR)
"""Ends for want of a slope, which a plateau has not either."""


class _Run:
    """One call of ``learn``."""

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm[Any],
        record: Callable[[Record], None] | None,
        checkpoint: str | Path | None,
        configuration: dict[str, Any],
        source: str,
    ) -> None:
        self.configuration, self.source = configuration, source
        self.problem, self.algorithm, self.record = problem, algorithm, record
        self.about = algorithm.about(problem)
        self.writer = None if checkpoint is None else Writer(Path(checkpoint))
        if checkpoint is not None:
            disk.check(problem.sought, problem.level.first)
        elif isinstance(problem.sought, Variational):
            _warn(problem.sought)
        self.theta: Theta = problem.theta
        self.start: Theta = problem.theta
        self.identity: Identity | None = None
        self.history: list[Record] = []
        self.state: State | None = None
        self.first = 0
        """Records that were there before this call."""

    def begin(self, theta0: Theta) -> None:
        """From ``theta0``, projected."""
        problem = self.problem
        for name, value in theta0.items():
            if name not in problem.theta:
                advice = nearest(name, problem.theta)
                raise InputError(f"theta0 has no learnable parameter '{name}'", advice=advice)
            known = problem.theta[name]
            check_matching(value, f"theta0['{name}']", known, "the energy")
            check_finite(value, f"theta0['{name}']")
            if value.shape != known.shape:
                expected = f"theta0['{name}'] must have shape {tuple(known.shape)}"
                raise InputError(expected, given=tuple(value.shape))
        problem.level.ledger.restart(Cost())
        self.theta = self.start = problem.space.project({**problem.theta, **theta0})

    def go_on(self, fit: Fit) -> None:
        """From where ``fit`` ended."""
        if fit.snapshot is None:
            advice = "start anew with theta0=fit.theta"
            raise InputError("the fit holds no state to go on from", advice=advice)
        self.state = fit.snapshot.restore(self.algorithm, self.problem)
        at, self.start = self.state.evaluation, fit.snapshot.start
        self.theta = at.theta if at.finite else fit.snapshot.theta
        self.history = list(fit.history[: fit.snapshot.records])
        self.first = max(len(self.history) - 1, 0)
        self.problem.level.ledger.restart(fit.cost)
        self.identity = fit.snapshot.problem

    def __call__(self, budget: Budget) -> Fit:
        self._save()
        ledger = self.problem.level.ledger
        ledger.budget = budget.after(ledger.cost)
        try:
            status = Status.GIVEN if budget.steps == 0 else self._loop(ledger.budget)
        except BudgetExhausted:
            status = Status.BUDGET
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        finally:
            ledger.budget = None
        fit = self._finish(self._judged(status))
        if self.writer is not None:
            fit.save(self.writer.folder)
        return replace(fit, snapshot=None if fit.snapshot is None else fit.snapshot.copy())

    def _loop(self, budget: Budget) -> Status:
        if self.state is None:
            with self.problem.metered():
                state = self.algorithm.init(self.problem, self.theta)
            self._note(state)
        while self.state is not None and self.state.status is Status.RUNNING:
            if self.problem.reached(self.state.evaluation):
                return Status.REACHED
            if budget.exceeded(self.problem.cost, len(self.history) - 1 - self.first):
                return Status.BUDGET
            with self.problem.metered():
                state = self.algorithm.step(self.problem, self.state)
            self._note(state)
        return Status.RUNNING if self.state is None else self.state.status

    def _judged(self, status: Status) -> Status:
        """WORSE if the loss has grown since the first look, PLATEAU if it falls far away."""
        lines = self.history
        if not lines or status in (Status.DIVERGED, Status.BROKEN, Status.INTERRUPTED):
            return status
        try:
            silent = len(lines) > 1 and not told(lines)
            if silent and grown(self.problem, self.start, self.theta):
                return Status.WORSE
            if self.state is not None and status in _STILL and little(lines[0], lines[-1]):
                return Status.PLATEAU if lower(self.problem, self.state.evaluation) else status
        except KeyboardInterrupt:
            pass
        return status

    def _note(self, state: State) -> None:
        problem, at = self.problem, state.evaluation
        self.state = state
        if at.finite:
            self.theta = at.theta
        known = at.finite and bool(at.grad)
        projected = projected_gradient_norm(problem, at) if known else math.nan
        line = Record.of(len(self.history), state, problem, projected)
        self.history.append(line)
        if self.record is not None:
            self.record(self.history[-1])
        self._save()

    def _save(self) -> None:
        if self.writer is not None:
            self.writer(lambda: self._finish(Status.RUNNING))

    def _finish(self, status: Status) -> Fit:
        problem, cost = self.problem, self.problem.cost + Cost()
        unit, theta = problem.loss.unit, problem.outward(self.theta)
        fit = Fit.of(problem.sought, theta, self.history, status, cost, unit)
        about = {"configuration": self.configuration, "source": self.source}
        fit = replace(fit, **about, algorithm=self.about, example=problem.level.first)
        if problem.separable:  # otherwise there are no images
            fit = replace(fit, contrast=problem.sought.contrast(problem.level.first))
        if not isinstance(self.state, Packable):
            return fit
        if self.identity is None:
            self.identity = problem.identity(self.start)
        name, lines = repr(self.algorithm), len(self.history)
        places = self.start, self.theta  # not copied: a snapshot changes with the problem
        found = Snapshot(name, self.state, problem.memory, lines, *places, self.identity)
        return replace(fit, snapshot=found)


def _warn(energy: Variational) -> None:
    """Say before any work that the fit cannot be saved, where parts are modules of others."""
    try:
        describe(energy)
    except InputError as error:
        warnings.warn(f"the fit cannot be saved: {error}", BilevelWarning, stacklevel=5)


class Writer:
    """Saves fits in at most a tenth of the time, and states, which may be large, in another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.next = self.free = self.plain = 0.0

    def __call__(self, fit: Callable[[], Fit]) -> None:
        """θ and history when they are due, the state when it is too."""
        start = time.monotonic()
        if start < self.next:
            return
        due = start >= self.free
        fit().write(self.folder, state=due)
        end = time.monotonic()
        if due:
            self.free = end + 10 * (end - start)
        else:
            self.plain = end - start
        self.next = end + 10 * self.plain
