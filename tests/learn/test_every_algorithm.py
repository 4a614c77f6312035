"""Every algorithm of the catalogue: it arrives where the solution is known, and never misleads."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

import bilevel as bl
from bilevel.cli.catalogue import CATALOGUE
from bilevel.ground.errors import InputError
from bilevel.learn import Algorithm, Status
from bilevel.learn.algorithms import (
    DFOLS,
    LBFGS,
    MAID,
    SOBA,
    Grid,
    ProjectedGradient,
    TorchOptimiser,
)
from bilevel.learn.growth import grown
from bilevel.learn.level import LowerLevel
from bilevel.learn.scaling import ScaledProblem
from bilevel.learn.schedules import Constant
from contracts.algorithms import (
    DEFAULTS,
    KINDS,
    QUADRATICS,
    SCALAR,
    SCALARS,
    SHARED,
    TELLING,
    AlgorithmContract,
    absurd,
    away,
    imaging,
    quadratic,
)
from contracts.quadratics import DOUBLE


def test_none_is_left_out() -> None:
    names = set(CATALOGUE["algorithms"])
    assert set(QUADRATICS) == names
    assert set(DEFAULTS) == names


class TestEvery(AlgorithmContract):
    names = tuple(DEFAULTS)


@dataclass(frozen=True)
class Forgetful(TorchOptimiser):
    """Keeps what it needs in the process and not in its state; looks past the budget."""

    taken: ClassVar[list[int]] = []

    def step(self, problem, state):
        self.taken.append(1)
        longer = replace(self, lr=0.01 * len(self.taken))
        found = TorchOptimiser.step(longer, problem, state)
        ledger = problem.level.ledger
        budget, ledger.budget = ledger.budget, None
        problem.value(found.evaluation.theta, tol=1e-3)
        ledger.budget = budget
        return found


def test_the_contract_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = AlgorithmContract()
    monkeypatch.setitem(DEFAULTS, "forgetful", Forgetful())
    for test in (
        contract.test_fits_go_on_bit_for_bit,
        contract.test_budgets_are_kept_and_costs_told,
    ):
        with pytest.raises(AssertionError):
            test("forgetful")
    lazy = replace(QUADRATICS["torch"], steps=1)
    monkeypatch.setitem(QUADRATICS, "lazy", lazy)
    with pytest.raises(AssertionError):
        contract.test_arrives_where_the_solution_is_known("lazy", 2)


def small(kind: str, max_steps: int = 100) -> bl.BilevelProblem:
    return imaging(kind, size=10, count=2, max_steps=max_steps)


def loss(kind: str, theta: bl.Theta) -> float:
    """Of a problem made anew, solved tightly."""
    return small(kind, max_steps=3000).value(theta, tol=1e-4)


def check(kind: str, algorithm: Algorithm, factor: float = 1.0) -> None:
    """Finite, ended, and not worse unless the status tells."""
    problem = small(kind)
    start = problem.space.project({name: factor * v for name, v in problem.theta.items()})
    budget = bl.Budget(steps=2, gradient_evaluations=1000)
    fit = bl.learn(problem, algorithm, start, budget=budget)
    assert fit.status is not Status.RUNNING
    assert all(bool(value.isfinite().all()) for value in fit.theta.values())
    before, after = loss(kind, start), loss(kind, fit.theta)
    assert math.isfinite(after)
    assert after <= 1.05 * before or fit.status in TELLING


RIDGES, EXPERTS = KINDS
SEARCHES = [name for name, case in QUADRATICS.items() if case.kind == SCALARS]
OTHERS = [name for name in DEFAULTS if name not in SEARCHES]


@pytest.mark.parametrize("name", DEFAULTS)
def test_kinks_make_none_worse_silently(name: str) -> None:
    check(RIDGES, DEFAULTS[name])


@pytest.mark.parametrize("name", OTHERS)
def test_nor_do_energies_that_are_not_convex(name: str) -> None:
    check(EXPERTS, DEFAULTS[name])


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_refuse_what_is_no_scalar(name: str) -> None:
    with pytest.raises(InputError, match="no scalar parameter"):
        check(EXPERTS, DEFAULTS[name])


@pytest.mark.parametrize("name", DEFAULTS)
def test_nor_does_a_start_far_away(name: str) -> None:
    check(RIDGES, DEFAULTS[name], factor=100.0)


@pytest.mark.parametrize("name", OTHERS)
def test_nor_do_steps_that_are_far_too_long(name: str) -> None:
    changed = absurd(DEFAULTS[name], "step 1e6")
    assert changed is not None
    check(RIDGES, changed)


@pytest.mark.parametrize("name", OTHERS)
def test_nor_does_a_lower_level_that_is_hardly_solved(name: str) -> None:
    changed = absurd(DEFAULTS[name], "accuracy 10")
    if changed is None:
        pytest.skip("chooses its accuracy itself")
    check(EXPERTS, changed)


RUNAWAYS = {
    "SOBA": SOBA(outer_step=1e6),
    "Adam": TorchOptimiser(lr=1e3),
    "fixed step": ProjectedGradient(Constant(1e-3), step_size=1e6),
    "batches": ProjectedGradient(Constant(1e-3), step_size=1e6, batch_size=1),
}


@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_loss_that_has_grown_is_told(name: str) -> None:
    problem = small(RIDGES)
    fit = bl.learn(problem, RUNAWAYS[name], budget=bl.Budget(steps=2))
    assert loss(RIDGES, fit.theta) > 1.05 * loss(RIDGES, problem.theta)
    assert fit.status is Status.WORSE


def test_the_looks_that_tell_cost_nothing_and_change_nothing() -> None:
    """Also where a fit goes on: growth is seen from its first start."""
    runaway = SOBA(outer_step=1e6)
    whole = bl.learn(small(RIDGES), runaway, budget=bl.Budget(steps=3))
    problem = small(RIDGES)
    half = bl.learn(problem, runaway, budget=bl.Budget(steps=2))
    rest = bl.learn(problem, runaway, budget=bl.Budget(steps=1), resume=half)
    assert rest.status is whole.status is Status.WORSE
    assert rest.cost.gradient_evaluations == rest.history[-1].cost.gradient_evaluations
    assert rest.cost.gradient_evaluations == whole.cost.gradient_evaluations
    assert all(torch.equal(rest.theta[name], value) for name, value in whole.theta.items())


@pytest.mark.parametrize("scales", [{}, {"regulariser": 2.0}])
def test_the_looks_are_bounded(scales: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    solve = LowerLevel.solve

    def noted(self, theta, index, tol):
        seen.append(self.max_steps)
        return solve(self, theta, index, tol)

    problem = small(RIDGES)
    problem.level.max_steps = 5000
    view = ScaledProblem(problem, scales)
    monkeypatch.setattr(LowerLevel, "solve", noted)
    grown(view, view.theta, view.theta)
    assert max(seen) == 1000
    assert problem.level.max_steps == 5000


def test_projected_gradients_do_not_creep_uphill_within_the_noise() -> None:
    problem, start, solution = quadratic(QUADRATICS["projected-gradient"].kind, 0)
    algorithm = ProjectedGradient(tol=1e-12)
    fit = bl.learn(problem, algorithm, start, budget=bl.Budget(steps=200))
    assert fit.status is Status.FLOOR
    assert away(fit.theta, solution) <= 1e-6


def test_dfo_ls_tells_when_a_loss_becomes_negative() -> None:
    """Below zero at the solution, though not at the start."""
    problem, start, solution = quadratic(SHARED, 2)
    below = problem.value({"w": solution}, tol=1e-8)
    assert below < 0 < problem.value(start, tol=1e-8)
    with pytest.raises(InputError, match="not negative"):
        bl.learn(problem, DFOLS(), start, budget=bl.Budget(steps=5))


def test_lbfgs_does_not_end_early_when_it_forgets_the_curvature() -> None:
    problem, start, solution = quadratic(SHARED, 11)
    fit = bl.learn(problem, LBFGS(tol=1e-6), start, budget=bl.Budget(steps=60))
    assert fit.status in (Status.STATIONARY, Status.FLOOR)
    assert away(fit.theta, solution) <= 1e-5


def test_maid_ends_where_its_floor_hides_decreases_and_a_lower_floor_helps() -> None:
    """Values are known to about the floor, so that θ is known to about its square root."""
    off: list[float] = []
    for floor in (1e-5, 1e-7, 1e-10):
        problem, start, solution = quadratic(SHARED, 0)
        fit = bl.learn(
            problem,
            MAID(tol=1e-8, accuracy=bl.Accuracy(floor=floor)),
            start,
            budget=bl.Budget(steps=80),
        )
        assert fit.status is Status.FLOOR
        off.append(away(fit.theta, solution))
    assert off[2] < off[1] / 3 < off[0] / 9


def test_searches_take_no_trial_that_was_not_solved() -> None:
    """Far too sharp ridges: heavy weights cannot be solved, and would seem good unsolved."""
    problem = small(RIDGES, max_steps=20)
    start = {**problem.theta, SCALAR: torch.tensor(-6.0, dtype=DOUBLE)}
    start["regulariser.log_sharpness"] = torch.tensor(8.0, dtype=DOUBLE)
    fit = bl.learn(problem, Grid({SCALAR: (-6.0, 1.0)}), start, budget=bl.Budget(steps=10))
    assert fit.history[0].uncertified == 0
    assert fit.history[-1].uncertified == 0
