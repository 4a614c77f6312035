"""Races of algorithms: fair, comparable, and honest about who could not run."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
import torch

import bilevel as bl
from bilevel.learn import Algorithm, Record, Status
from bilevel.learn.algorithms.maid import MAID

RUNNERS = {"maid": bl.algorithms.MAID(), "l-bfgs": bl.algorithms.LBFGS()}


def problem() -> bl.BilevelProblem:
    images = bl.data.shepp_logan(16).repeat(2, 1, 1, 1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.02, 0.05))
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


@dataclass(frozen=True)
class Refusing(Algorithm[object]):  # type: ignore[type-var]
    """Cannot begin."""

    def init(self, problem: bl.BilevelProblem, theta: bl.Theta) -> object:
        raise bl.InputError("this algorithm needs something else")

    def step(self, problem: bl.BilevelProblem, state: object) -> object:
        return state


@pytest.fixture(scope="module")
def found() -> bl.Race:
    return bl.race(problem, RUNNERS, bl.Budget(steps=3))


def test_each_algorithm_runs_as_it_would_alone(found: bl.Race) -> None:
    assert [entry.name for entry in found.entries] == list(RUNNERS)
    for entry in found.entries:
        alone = bl.learn(problem(), RUNNERS[entry.name], budget=bl.Budget(steps=3))
        assert entry.fit.theta == alone.theta
        assert [r.corrected for r in entry.fit.history] == [r.corrected for r in alone.history]
        assert entry.fit.cost.gradient_evaluations == alone.cost.gradient_evaluations


def test_final_losses_are_those_of_a_much_more_accurate_look(found: bl.Race) -> None:
    for entry in found.entries:
        double = {name: value.double() for name, value in entry.fit.theta.items()}
        images = bl.data.shepp_logan(16).repeat(2, 1, 1, 1)
        pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
        exact = bl.data.Pairs(pairs.y.double(), pairs.target.double(), pairs.ids)
        energy = entry.fit.energy.double()
        judge = bl.BilevelProblem(energy, bl.losses.SquaredError(), exact)
        truth = judge.value(double, tol=1e-9)
        assert entry.final.accuracy == found.accuracy
        assert abs(entry.final.corrected - truth) <= entry.final.interval


def test_the_winner_is_the_cheapest_of_those_close_to_the_best(found: bl.Race) -> None:
    lowest = min(entry.final.corrected for entry in found.entries)
    assert found.best.final.corrected == lowest
    for entry in found.entries:
        assert (entry in found.close) == (entry.final.corrected <= lowest + 0.01 * found.scale)
        if entry in found.close:
            assert found.work(found.winner) <= found.work(entry)


def test_work_counts_until_the_loss_stays_close(found: bl.Race) -> None:
    entry, level = found.best, found.level
    line = entry.fit.history[0]

    def at(gradients: int) -> Record:
        cost = bl.Cost(gradient_evaluations=gradients, hvps=1)
        return replace(line, whole=False, cost=cost)  # what it says of its loss means nothing

    path = (2 * level, level, 2 * level, level, level / 2)
    history = tuple(at(10 * k) for k in range(5))
    entry = replace(entry, fit=replace(entry.fit, history=history), path=path)
    assert found.work(entry) == 31
    longer = replace(entry.fit, history=(*history, at(70)))
    never = replace(entry, fit=longer, path=(*path, 2 * level))
    assert never.arrival(level) is None
    assert found.work(never) == 71


def test_one_that_cannot_run_does_not_stop_the_others() -> None:
    found = bl.race(problem, {"no": Refusing(), "maid": MAID()}, bl.Budget(steps=1))
    assert [entry.name for entry in found.entries] == ["maid"]
    assert found.failures == {"no": "this algorithm needs something else"}
    with pytest.raises(bl.InputError, match="none of the algorithms could run"):
        bl.race(problem, {"no": Refusing()}, bl.Budget(steps=1))
    with pytest.raises(bl.InputError, match="at least one algorithm"):
        bl.race(problem, {}, bl.Budget(steps=1))


def test_an_interrupt_keeps_what_is_done() -> None:
    def watch(name: str) -> nullcontext[object]:
        def record(line: Record) -> None:
            if name == "l-bfgs" and line.step == 1:
                raise KeyboardInterrupt

        return nullcontext(record)

    runners = {**RUNNERS, "again": MAID()}
    found = bl.race(problem, runners, bl.Budget(steps=2), watch=watch)  # type: ignore[arg-type]
    assert found.interrupted
    assert [entry.name for entry in found.entries] == ["maid", "l-bfgs"]
    assert found.entries[1].fit.status is Status.INTERRUPTED
    assert all(math.isfinite(entry.final.corrected) for entry in found.entries)


def test_the_accuracy_can_be_given() -> None:
    found = bl.race(problem, {"maid": MAID()}, bl.Budget(steps=1), accuracy=1e-3)
    assert found.accuracy == 1e-3
    assert found.entries[0].final.certificate <= 1e-3
    with pytest.raises(bl.InputError, match="accuracy"):
        bl.race(problem, {"maid": MAID()}, bl.Budget(steps=1), accuracy=0.0)


def test_an_active_constraint_makes_the_projected_gradient_smaller() -> None:
    judge = problem()
    theta = {name: torch.full_like(value, -1e6) for name, value in judge.theta.items()}
    fit = bl.learn(judge, MAID(), judge.space.project(theta), budget=bl.Budget(steps=1))
    assert fit.history[0].projected < fit.history[0].gradient_norm


def test_batches_arrive_where_their_loss_does() -> None:
    """SABA looks at all samples when it believes to be done; it arrives long before."""
    runners = {"saba": bl.algorithms.SABA(tol=1e-9), "l-bfgs": bl.algorithms.LBFGS(tol=1e-6)}
    found = bl.race(problem, runners, bl.Budget(steps=25))
    entry = next(entry for entry in found.entries if entry.name == "saba")
    assert len(entry.path) == len(entry.fit.history)
    judge = problem()
    arrived = entry.arrival(found.level)
    assert arrived is not None
    assert not any(r.whole for r in entry.fit.history[1:])
    assert found.work(entry) < entry.work
    assert entry.path[-1] == pytest.approx(judge.value(entry.fit.theta, tol=1e-6), rel=1e-3)
