"""Every algorithm of the catalogue on problems solvable exactly and hard ones, and its contract.

Inherit ``AlgorithmContract`` and name an algorithm in ``QUADRATICS`` and ``DEFAULTS``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.learn import Accuracy, Algorithm, Status
from bilevel.learn.algorithms import (
    BOME,
    DFOLS,
    F2SA,
    HOAG,
    ISGD,
    LBFGS,
    MAID,
    MASOBA,
    SABA,
    SOBA,
    SRBA,
    AmIGO,
    Automatic,
    DynamicSampling,
    GaussNewton,
    Grid,
    OptunaSearch,
    ProjectedGradient,
    RandomSearch,
    StocBiO,
    Stochastic,
    TorchOptimiser,
    TrustRegion,
)
from bilevel.learn.schedules import Geometric
from contracts import unusual
from contracts.problems import images, in_situation, watched
from contracts.quadratics import DOUBLE, Quadratic
from contracts.rows import rows
from contracts.sources import problem_and_solution

TIGHT, NEVER = 1e-6, 1e-30
SHARED, OWN, SCALARS = "one x", "an x each", "3 scalars in a box"
NAMES = ("a", "b", "c")
BOX = dict.fromkeys(NAMES, (-1.0, 1.0))


@dataclass(frozen=True)
class Case:
    """``within`` is the distance to reach, relative to that at the start, in so many ``steps``."""

    algorithm: Algorithm[Any]
    within: float
    steps: int = 150
    kind: str = SHARED


QUADRATICS: dict[str, Case] = {
    "automatic": Case(Automatic(tol=TIGHT), 1e-5),
    "maid": Case(MAID(tol=TIGHT), 1e-3),
    "accelerated-maid": Case(MAID(accelerated=True, tol=TIGHT), 1e-3),
    "l-bfgs": Case(LBFGS(tol=TIGHT), 1e-5),
    "dynamic-sampling": Case(DynamicSampling(first=2, tol=TIGHT), 1e-5, kind=OWN),
    "projected-gradient": Case(ProjectedGradient(tol=TIGHT), 1e-5),
    "hoag": Case(HOAG(Geometric(0.9), tol=TIGHT), 1e-3),
    "trust-region": Case(TrustRegion(tol=TIGHT), 1e-5),
    "gauss-newton": Case(GaussNewton(tol=TIGHT), 1e-5),
    "torch": Case(TorchOptimiser("Rprop", tol=TIGHT), 1e-4),
    "grid": Case(Grid(BOX, points=4), 0.5, kind=SCALARS),
    "random": Case(RandomSearch(BOX), 0.5, kind=SCALARS),
    "optuna": Case(OptunaSearch(BOX), 0.4, kind=SCALARS),
    "dfo-ls": Case(DFOLS(), 2e-2, kind=OWN),
    "soba": Case(SOBA(4, outer_step=0.1, tol=NEVER), 0.05, 40),
    "ma-soba": Case(MASOBA(4, outer_step=0.1, average=0.5, tol=NEVER), 0.05, 40),
    "saba": Case(SABA(4, outer_step=0.05, tol=NEVER), 0.01, 40),
    "srba": Case(SRBA(4, outer_step=0.05, tol=NEVER), 1e-3, 40),
    "amigo": Case(AmIGO(4, outer_step=0.1, decay=0.5, inner_steps=2, tol=NEVER), 0.1, 20),
    "stocbio": Case(StocBiO(4, outer_step=0.1, decay=0.5, inner_steps=5, tol=NEVER), 0.3, 10),
    "f2sa": Case(F2SA(4, outer_step=0.1, tol=NEVER), 0.05, 40),
    "bome": Case(
        BOME(24, outer_step=0.1, decay=0.5, iterations=50, inner_steps=4, penalty=5.0, tol=NEVER),
        0.1,
        12,
    ),
    "isgd": Case(ISGD(first_change=0.3), 0.1, 200, kind=OWN),
    "stochastic": Case(Stochastic(200, rate=0.1), 0.1, 200, kind=OWN),
}


def quadratic(kind: str, seed: int) -> tuple[bl.BilevelProblem, bl.Theta, Tensor]:
    """A random problem, a random start and the solution as a vector."""
    g = torch.Generator().manual_seed(1000 + seed)
    away = torch.randn(3, generator=g, dtype=DOUBLE)
    if kind == OWN:
        problem, solution = problem_and_solution(3, seed)
        return problem, {"strength": solution + away}, solution
    q = Quadratic.random(seed)
    if kind == SHARED:
        start = q.solution() + away
        return q.problem(start), {"w": start}, q.solution()
    inside = torch.rand(3, generator=g, dtype=DOUBLE) - 0.5
    problem = q.problem()

    def moved(theta: bl.Theta) -> bl.Theta:
        return {"w": q.solution() - inside + torch.stack([theta[name] for name in NAMES])}

    scalars = bl.SharedProblem(
        bl.FiniteSum(problem.lower.size, lambda x, theta, ids: q.lower(x, moved(theta), ids)),
        bl.FiniteSum(problem.upper.size, lambda x, theta, ids: q.upper(x, moved(theta), ids)),
        dict.fromkeys(NAMES, torch.ones((), dtype=DOUBLE)),
        torch.zeros(6, dtype=DOUBLE),
        bounds=problem.bounds,
    )
    return scalars, scalars.theta, inside


def away(theta: bl.Theta, solution: Tensor) -> float:
    """Distance to the solution."""
    return float((bl.ground.theta.flatten(theta) - solution).norm())


KINDS = ("convex ridges", "student-t")


def imaging(
    kind: str, *, size: int = 24, count: int = 4, max_steps: int = 3000
) -> bl.BilevelProblem:
    """Denoising by Huber profiles (C^{1,1}, with kinks) or Student-t experts (not convex)."""
    images = bl.data.embedded_images(size=size).double()[:count]
    noise = bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=0)
    bank = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)) / 3
    if kind == "student-t":
        experts = bl.regularisers.FieldsOfExperts(bank, 0.05, 0.05, potential=kind)
    else:
        experts = bl.regularisers.RidgeRegulariser([bank], weight=0.1, sharpness=20.0)
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs, max_steps=max_steps)


SCALAR = "regulariser.log_weight"
WEIGHTS = {SCALAR: (-6.0, 1.0)}

DEFAULTS: dict[str, Algorithm[Any]] = {
    "automatic": Automatic(),
    "maid": MAID(),
    "accelerated-maid": MAID(accelerated=True),
    "l-bfgs": LBFGS(),
    "dynamic-sampling": DynamicSampling(first=2),
    "projected-gradient": ProjectedGradient(),
    "hoag": HOAG(),
    "trust-region": TrustRegion(),
    "gauss-newton": GaussNewton(),
    "torch": TorchOptimiser(),
    "grid": Grid(WEIGHTS),
    "random": RandomSearch(WEIGHTS),
    "optuna": OptunaSearch(WEIGHTS),
    "dfo-ls": DFOLS(),
    "soba": SOBA(),
    "ma-soba": MASOBA(),
    "saba": SABA(),
    "srba": SRBA(),
    "amigo": AmIGO(),
    "stocbio": StocBiO(),
    "f2sa": F2SA(),
    "bome": BOME(),
    "isgd": ISGD(),
    "stochastic": Stochastic(),
}

ABSURD: Mapping[str, tuple[str, ...]] = {
    "step 1e6": ("outer_step", "step_size", "lr", "radius", "longest", "first_change", "rate"),
    "accuracy 10": ("accuracy",),
}
"""The first option of these that an algorithm has is set to the absurd value."""


def absurd(algorithm: Algorithm[Any], how: str) -> Algorithm[Any] | None:
    """With an absurd option; None if there is none of this sort."""
    have = {field.name for field in fields(algorithm)}  # type: ignore[arg-type]
    value = 1e6 if how == "step 1e6" else 10.0
    found = [name for name in ABSURD[how] if name in have]
    if not found:
        return None
    policy = isinstance(getattr(algorithm, found[0]), Accuracy)
    return replace(algorithm, **{found[0]: Accuracy(first=value) if policy else value})


TELLING = (Status.WORSE, Status.DIVERGED, Status.BROKEN)
DRAWN = ("dynamic-sampling", "soba", "ma-soba", "saba", "srba", "amigo", "stocbio", "f2sa", "bome")
BY_POSITION = (*DRAWN, "isgd", "stochastic", "dfo-ls")
"""Whose batches are drawn by position, or whose engine adds up in order: they say so."""


class AlgorithmContract:
    names: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "situation" in metafunc.fixturenames:
            product = rows(self.names, unusual.SMOOTH, strength=1)
            metafunc.parametrize(("name", "situation"), product)
        elif "seed" in metafunc.fixturenames:
            metafunc.parametrize(("name", "seed"), rows(self.names, (2, 5, 11), strength=1))
        else:
            metafunc.parametrize("name", self.names)

    def test_arrives_where_the_solution_is_known(self, name: str, seed: int) -> None:
        """By a looser end than in the benchmark, which takes longer."""
        case = QUADRATICS[name]
        algorithm, within = case.algorithm, case.within
        if within < 1e-2 and "tol" in vars(algorithm):
            algorithm, within = replace(algorithm, tol=1e-3), 1e-2
        problem, start, solution = quadratic(case.kind, seed)
        fit = bl.learn(problem, algorithm, start, budget=bl.Budget(steps=case.steps))
        assert fit.status is not Status.WORSE
        assert away(fit.theta, solution) <= within * away(start, solution)

    def test_budgets_are_kept_and_costs_told(self, name: str) -> None:
        """An evaluation that would begin when the budget is just used up does not."""
        free, problem = images(), images()
        with watched(free) as begun:
            bl.learn(free, DEFAULTS[name], budget=bl.Budget(steps=2))
        most = max(begun)
        with watched(problem) as begun:
            fit = bl.learn(problem, DEFAULTS[name], budget=bl.Budget(gradient_evaluations=most))
            assert all(before < most for before in begun if before < fit.cost.gradient_evaluations)
        assert fit.status in (Status.BUDGET, Status.WORSE)
        spent = [line.cost.gradient_evaluations for line in fit.history]
        assert spent == sorted(spent)
        assert fit.cost.gradient_evaluations >= most

    def test_fits_go_on_bit_for_bit(self, name: str) -> None:
        at_once = bl.learn(images(), DEFAULTS[name], budget=bl.Budget(steps=2))
        first = bl.learn(images(), DEFAULTS[name], budget=bl.Budget(steps=1))
        again = bl.learn(images(), DEFAULTS[name], budget=bl.Budget(steps=1), resume=first)
        for key, value in at_once.theta.items():
            assert torch.equal(again.theta[key], value)
        assert again.cost.gradient_evaluations == at_once.cost.gradient_evaluations
        assert [r.value for r in again.history] == [r.value for r in at_once.history]
        assert again.status is at_once.status

    def test_float32(self, name: str) -> None:
        problem = images(dtype=torch.float32)
        fit = bl.learn(problem, DEFAULTS[name], budget=bl.Budget(steps=2))
        assert {value.dtype for value in fit.theta.values()} == {torch.float32}
        judge = images()
        before, after = (
            judge.value({k: v.double() for k, v in theta.items()}, tol=1e-5)
            for theta in (problem.theta, fit.theta)
        )
        assert after <= 1.01 * before or fit.status in TELLING

    @pytest.mark.parametrize("options", [{"chunk": 3}, {"order": (2, 0, 3, 1)}], ids=repr)
    def test_neither_chunks_nor_the_order_of_samples_matter(self, name: str, options) -> None:
        if "order" in options and name in BY_POSITION:
            pytest.skip("draws by position")
        budget = bl.Budget(steps=2)
        one = bl.learn(images(), DEFAULTS[name], budget=budget)
        other = bl.learn(images(**options), DEFAULTS[name], budget=budget)
        for key, value in one.theta.items():
            torch.testing.assert_close(other.theta[key], value, rtol=1e-6, atol=1e-6)

    def test_learns_in_situations_that_others_leave_out(self, name: str, situation: str) -> None:
        """Finite, ended, and not worse unless the status tells."""
        problem = in_situation(situation)(64, DOUBLE)
        algorithm = DEFAULTS[name]
        if "box" in vars(algorithm):
            scalar = next(key for key, value in problem.theta.items() if value.ndim == 0)
            algorithm = replace(algorithm, box={scalar: (-3.0, 0.0)})
        fit = bl.learn(problem, algorithm, budget=bl.Budget(steps=2))
        assert fit.status is not Status.RUNNING
        assert algebra.norm(fit.theta) < math.inf
        judge = in_situation(situation)(64, DOUBLE)
        before, after = (judge.value(theta, tol=1e-6) for theta in (judge.theta, fit.theta))
        assert after <= 1.01 * before or fit.status in TELLING
