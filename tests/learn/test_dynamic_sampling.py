"""Dynamic sampling: its test, its growth, where it ends, and that it can be continued."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.learn import Status
from bilevel.learn.algorithms import LBFGS, DynamicSampling, automatic
from bilevel.learn.evaluation import pooled
from bilevel.learn.level import LowerLevel
from bilevel.learn.sample import Sample
from contracts.quadratics import Quadratic

NAME = "regulariser.log_weight"


def problem(
    count: int = 64, weight: float = 0.01, regulariser: bl.regularisers.Regulariser | None = None
) -> bl.BilevelProblem:
    tiles = bl.data.embedded_images(size=48).double().unfold(2, 8, 8).unfold(3, 8, 8)
    images = tiles.reshape(-1, 1, 8, 8)[:count].contiguous()
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1), seed=0)
    tv = bl.regularisers.TotalVariation(weight, 0.05, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv if regulariser is None else regulariser)
    return bl.BilevelProblem(energy.double(), bl.losses.SquaredError(), pairs)


def seen(p: bl.BilevelProblem, algorithm: DynamicSampling) -> list[int]:
    """Samples before every step."""
    state, counts = algorithm.init(p, p.theta), list[int]()
    while state.status is Status.RUNNING:
        counts.append(state.evaluation.samples)
        state = algorithm.step(p, state)
    return [*counts, state.evaluation.samples]


def test_it_ends_where_lbfgs_ends_on_all_samples() -> None:
    whole = bl.learn(problem(), LBFGS(), budget=bl.Budget(steps=60))
    part = bl.learn(problem(), DynamicSampling(first=8), budget=bl.Budget(steps=60))
    assert part.status in (Status.CONVERGED, Status.STATIONARY, Status.FLOOR)
    assert abs(float(part.theta[NAME] - whole.theta[NAME])) <= 0.01
    judge = problem()
    exact = judge.value_and_grad(part.theta, tol=1e-8)
    assert part.history[-1].corrected == pytest.approx(exact.corrected, rel=1e-4)
    assert part.cost.gradient_evaluations < whole.cost.gradient_evaluations


def test_the_sample_grows_by_its_factor_to_all() -> None:
    counts = seen(problem(), DynamicSampling(first=8, growth=3.0))
    assert counts[0] in (8, 24)
    assert counts[-1] == 64
    for before, after in itertools.pairwise(counts):
        assert after in (before, min(3 * before, 64))


def test_growth_follows_the_noise() -> None:
    p = problem()
    patient, hasty = (seen(problem(), DynamicSampling(first=8, theta=t)) for t in (10.0, 1e-3))
    assert hasty.count(64) > patient.count(64)
    assert hasty[0] == 16, "what drowns at the start has grown at once"
    state = DynamicSampling(first=8, theta=10.0).init(p, p.theta)
    at = state.evaluation
    assert at.variance > 0
    ratio = (at.noise / algebra.inner(at.grad, at.grad)) ** 0.5
    assert at.drowned(0.99 * ratio)
    assert not at.drowned(1.01 * ratio)


def test_growth_solves_the_new_samples_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[int] = []
    solve = LowerLevel.solve

    def noted(self, theta, index, tol):
        solved.extend(index.tolist())
        return solve(self, theta, index, tol)

    monkeypatch.setattr(LowerLevel, "solve", noted)
    p = problem()
    state = DynamicSampling(first=8, theta=1e-3).init(p, p.theta)
    first, new = solved[:-8], solved[-8:]
    assert state.evaluation.samples == len(set(solved)) == 16
    assert set(first).isdisjoint(new)


def test_few_samples_are_plain_lbfgs() -> None:
    few = bl.learn(problem(6), DynamicSampling(), budget=bl.Budget(steps=5))
    plain = bl.learn(problem(6), LBFGS(), budget=bl.Budget(steps=5))
    assert few.theta == plain.theta
    assert few.cost.gradient_evaluations == plain.cost.gradient_evaluations


def test_a_sample_is_the_mean_over_its_ids() -> None:
    p, ids = problem(), torch.tensor([5, 3, 40, 61, 12])
    sample = Sample(p, ids)
    found = sample.value_and_grad(p.theta, tol=1e-6)
    direct = problem().value_and_grad(p.theta, tol=1e-6, ids=ids)
    assert (len(sample), found.samples) == (5, 5)
    assert found.corrected == pytest.approx(direct.corrected, rel=1e-9)
    torch.testing.assert_close(found.grad, direct.grad)
    assert found.error == pytest.approx(direct.error, rel=1e-6)
    assert sample.value(p.theta, tol=1e-6) == pytest.approx(direct.value, rel=1e-6)
    spent = p.cost.gradient_evaluations
    p.value(p.theta, tol=1e-6, ids=ids)
    assert p.cost.gradient_evaluations - spent <= 2 * len(ids), "starts are remembered"


def test_blocks_tell_the_variance_of_the_gradient() -> None:
    p = problem(96)
    each = torch.stack(
        [
            algebra.flatten(p.value_and_grad(p.theta, tol=1e-3, ids=torch.tensor([k])).grad)
            for k in range(96)
        ]
    )
    true = float(each.var(0).sum())
    draws = [torch.randperm(96, generator=torch.Generator().manual_seed(s)) for s in range(12)]
    found = [Sample(p, order[:32]).value_and_grad(p.theta, tol=1e-3).variance for order in draws]
    assert sum(found) / len(found) == pytest.approx(true, rel=0.4)


def test_pooled_parts_are_the_whole() -> None:
    p = problem(30)
    whole = p.value_and_grad(p.theta, tol=1e-7, estimate=True)
    parts = torch.arange(30).split([7, 23])
    both = pooled([p.value_and_grad(p.theta, tol=1e-7, ids=k, estimate=True) for k in parts])
    torch.testing.assert_close(both.grad, whole.grad, rtol=1e-6, atol=1e-12)
    for name in ("value", "corrected", "interval", "error", "certificate"):
        assert getattr(both, name) == pytest.approx(getattr(whole, name), rel=0.3), name
    assert both.corrected == pytest.approx(whole.corrected, rel=1e-8)
    assert both.samples == 30


def test_steps_in_two_parts_equal_those_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILEVEL_COMPILE", "never")
    algorithm, threads = DynamicSampling(first=8), torch.get_num_threads()
    torch.set_num_threads(1)
    whole = bl.learn(problem(), algorithm, budget=bl.Budget(steps=7))
    half = bl.learn(problem(), algorithm, budget=bl.Budget(steps=4))
    half.save(tmp_path)
    again = bl.learn(problem(), algorithm, budget=bl.Budget(steps=3), resume=bl.load(tmp_path))
    torch.set_num_threads(threads)
    assert half.snapshot is not None
    assert half.snapshot.state.evaluation.samples < 64, "it goes on with a part of the samples"
    assert again.theta == whole.theta
    assert again.cost.gradient_evaluations == whole.cost.gradient_evaluations
    assert again.cost.hvps == whole.cost.hvps


def test_the_budget_ends_it_within_a_step() -> None:
    fit = bl.learn(problem(), DynamicSampling(first=8), budget=bl.Budget(gradient_evaluations=300))
    assert fit.status is Status.BUDGET
    assert fit.cost.gradient_evaluations < 2000


def test_automatic_takes_it_for_many_samples_and_says_so() -> None:
    choice = automatic(problem(192))
    assert isinstance(choice.algorithm, DynamicSampling)
    assert "192 samples" in choice.reason
    assert type(automatic(problem(64)).algorithm) is LBFGS
    kinks = problem(192, regulariser=bl.regularisers.ExactTotalVariation(0.05))
    assert not isinstance(automatic(kinks).algorithm, LBFGS)


def test_shared_problems_stay_with_lbfgs() -> None:
    shared = Quadratic.random(0, n=200, m=200).problem()
    assert type(automatic(shared).algorithm) is LBFGS
    with pytest.raises(InputError, match="an x for each sample"):
        bl.learn(shared, DynamicSampling(), budget=bl.Budget(steps=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 1}, "first >= 2"),
        ({"growth": 1.0}, "growth > 1"),
        ({"theta": 0.0}, "theta"),
        ({"tol": -1.0}, "tol"),
        ({"memory": 0}, "memory"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DynamicSampling(**options)
