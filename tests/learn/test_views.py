"""Problems that show others through themselves: one account, one memory, θ in the right units."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import bilevel as bl
from bilevel.learn import DirectedProblem, Problem, Status
from bilevel.learn.sample import Sample
from bilevel.learn.scaling import ScaledProblem
from contracts.algorithms import DEFAULTS
from contracts.quadratics import Quadratic

WEIGHT = "regulariser.log_weight"


def images(chunk: int = 64, order: tuple[int, ...] = (0, 1, 2, 3)) -> bl.BilevelProblem:
    clean = bl.data.embedded_images(size=10).double()[:4]
    pairs = bl.data.simulate(clean, bl.operators.Identity(), bl.data.GaussianNoise(0.1), seed=0)
    tv = bl.regularisers.TotalVariation(0.05, 0.05)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs[list(order)], chunk=chunk)


def unsupervised() -> bl.UnsupervisedProblem:
    whole = images()
    return bl.UnsupervisedProblem(whole.energy, whole.pairs.y, bl.criteria.SURE(0.1))


def shared() -> bl.SharedProblem:
    return Quadratic.random(0).problem()


WHOLE: dict[str, Callable[[], DirectedProblem]] = {
    "images": images,
    "unsupervised": unsupervised,
    "shared": shared,
}


def half(problem: DirectedProblem) -> Problem:
    return Sample(problem, torch.arange(0, len(problem), 2))


def scaled(problem: DirectedProblem) -> Problem:
    return ScaledProblem(problem, dict.fromkeys(problem.theta, 2.0))


def twice(problem: DirectedProblem) -> Problem:
    return ScaledProblem(ScaledProblem(problem, {}), dict.fromkeys(problem.theta, 2.0))


VIEWS = {"itself": lambda p: p, "scaled": scaled, "scaled twice": twice, "sample": half}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", WHOLE)
def test_budgets_are_kept_and_costs_told(name: str, view: str) -> None:
    whole = WHOLE[name]()
    seen = VIEWS[view](whole)
    fit = bl.learn(seen, bl.algorithms.MAID(tol=1e-9), budget=bl.Budget(gradient_evaluations=10))
    assert fit.status is Status.BUDGET
    assert fit.cost.gradient_evaluations == whole.cost.gradient_evaluations > 0
    before = whole.cost.gradient_evaluations
    rest = bl.learn(seen, bl.algorithms.LBFGS(), budget=bl.Budget(steps=1))
    assert rest.cost.gradient_evaluations == whole.cost.gradient_evaluations
    assert rest.cost.gradient_evaluations != before
    assert seen.cost is whole.cost
    assert whole.level.ledger.budget is None


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", WHOLE)
def test_fits_go_on_bit_for_bit(name: str, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILEVEL_COMPILE", "never")
    algorithm = bl.algorithms.LBFGS(tol=1e-9)
    at_once = bl.learn(VIEWS[view](WHOLE[name]()), algorithm, budget=bl.Budget(steps=3))
    first = bl.learn(VIEWS[view](WHOLE[name]()), algorithm, budget=bl.Budget(steps=2))
    other = VIEWS[view](WHOLE[name]())
    again = bl.learn(other, algorithm, budget=bl.Budget(steps=1), resume=first)
    for key, value in at_once.theta.items():
        assert torch.equal(value, again.theta[key])


def test_what_is_learned_in_other_units_is_the_energy() -> None:
    fit = bl.learn(scaled(images()), bl.algorithms.LBFGS(), budget=bl.Budget(steps=20))
    plain = bl.learn(images(), bl.algorithms.LBFGS(), budget=bl.Budget(steps=20))
    assert float(fit.theta[WEIGHT]) == pytest.approx(float(plain.theta[WEIGHT]), abs=0.05)
    assert float(fit.energy.regulariser.log_weight.detach()) == float(fit.theta[WEIGHT])  # type: ignore[union-attr]


def test_other_samples_or_scales_are_other_problems() -> None:
    algorithm, budget = bl.algorithms.LBFGS(), bl.Budget(steps=1)
    fit = bl.learn(half(images()), algorithm, budget=budget)
    with pytest.raises(bl.InputError, match="samples drawn"):
        bl.learn(Sample(images(), torch.tensor([1, 3])), algorithm, budget=budget, resume=fit)
    fit = bl.learn(scaled(images()), algorithm, budget=budget)
    with pytest.raises(bl.InputError, match=r"scales\.regulariser\.log_weight = 2\.0"):
        other = ScaledProblem(images(), dict.fromkeys(images().theta, 4.0))
        bl.learn(other, algorithm, budget=budget, resume=fit)


def test_single_loops_need_directions() -> None:
    with pytest.raises(bl.InputError, match="directions of single samples"):
        bl.learn(half(images()), bl.algorithms.SABA(), budget=bl.Budget(steps=1))


DRAWN = ("dynamic-sampling", "soba", "ma-soba", "saba", "srba", "amigo", "stocbio", "f2sa", "bome")
BY_POSITION = (*DRAWN, "isgd", "dfo-ls")
"""Whose batches are drawn by position, or whose engine adds up in order: they say so."""


@pytest.mark.parametrize("options", [{"chunk": 3}, {"order": (2, 0, 3, 1)}], ids=repr)
@pytest.mark.parametrize("name", DEFAULTS)
def test_neither_chunks_nor_the_order_of_samples_matter(name, options, monkeypatch) -> None:
    if "order" in options and name in BY_POSITION:
        pytest.skip("draws by position")
    monkeypatch.setenv("BILEVEL_COMPILE", "never")
    budget = bl.Budget(steps=2)
    one = bl.learn(images(), DEFAULTS[name], budget=budget)
    other = bl.learn(images(**options), DEFAULTS[name], budget=budget)
    for key, value in one.theta.items():
        torch.testing.assert_close(other.theta[key], value, rtol=1e-6, atol=1e-6)
