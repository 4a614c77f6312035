"""Algorithm 1: momentum, and batches that grow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn import Status
from bilevel.learn.algorithms import LBFGS, ProjectedGradient
from bilevel.learn.momentum import Momentum
from bilevel.learn.sample import Nested, Sample
from bilevel.learn.schedules import Constant, Geometric
from contracts.quadratics import DOUBLE, Quadratic

NAME = "regulariser.log_weight"


def flat(seed: int) -> Quadratic:
    """Curvatures 3, 0.5 and 0.06 of the loss, and hardly any of x."""
    quadratic = Quadratic.random(seed)
    axes, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)))
    bend = axes.to(DOUBLE) @ torch.diag(torch.tensor([3.0, 0.5, 0.06], dtype=DOUBLE))
    e = (bend @ axes.to(DOUBLE).T).expand(20, 3, 3)
    return replace(quadratic, e=e, c=0.0 * quadratic.c)


def steps(quadratic: Quadratic, algorithm: ProjectedGradient, most: int = 400) -> int:
    """Until θ is within 3 % of the distance at the start."""
    p, solution = quadratic.problem(), quadratic.solution()
    state = algorithm.init(p, p.theta)
    for t in range(most):
        if float((state.evaluation.theta["w"] - solution).norm()) <= 3e-2 * solution.norm():
            return t
        state = algorithm.step(p, state)
    return most


@pytest.mark.parametrize(("seed", "step_size"), [(0, 1 / 3), (1, None)], ids=["fixed", "searched"])
def test_momentum_needs_far_fewer_steps(seed: int, step_size: float | None) -> None:
    plain = ProjectedGradient(Constant(1e-6), step_size=step_size, tol=1e-12)
    plain_steps, steps_with_momentum = (
        steps(flat(seed), replace(plain, accelerated=on)) for on in (False, True)
    )
    assert 3 * steps_with_momentum < plain_steps < 400


def test_momentum_restarts_when_a_step_points_against_it() -> None:
    p = flat(0).problem()
    zero, one, two = ({"w": torch.full((3,), v, dtype=DOUBLE)} for v in (0.0, 1.0, 2.0))
    moving = Momentum(zero, count=3)
    ahead, after = moving.onward(p, one, two)
    assert ahead["w"].tolist() == [3.0, 3.0, 3.0]
    assert after == Momentum(two, 4)
    assert moving.onward(p, two, one) == (one, Momentum(one, 1))


def test_momentum_stays_in_the_set() -> None:
    p = images(8, weight=5.0)
    highest = {NAME: torch.tensor(50.0, dtype=DOUBLE)}
    limit = p.space.project(highest)[NAME]
    ahead, _ = Momentum({NAME: limit - 2.0}, count=30).onward(
        p, {NAME: limit - 1.0}, {NAME: limit - 0.1}
    )
    assert torch.equal(ahead[NAME], limit)


def images(count: int = 40, weight: float = 0.01) -> bl.BilevelProblem:
    tiles = bl.data.embedded_images(size=48).double().unfold(2, 8, 8).unfold(3, 8, 8)
    clean = tiles.reshape(-1, 1, 8, 8)[:count].contiguous()
    pairs = bl.data.simulate(clean, bl.operators.Identity(), bl.data.GaussianNoise(0.1), seed=0)
    tv = bl.regularisers.TotalVariation(weight, 0.05, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
    return bl.BilevelProblem(energy.double(), bl.losses.SquaredError(), pairs)


@pytest.mark.parametrize("options", [{}, {"step_size": 30.0, "accelerated": True}], ids=repr)
def test_batches_grow_to_all_samples_and_end_where_these_do(options: dict[str, float]) -> None:
    best = bl.learn(images(), LBFGS(), budget=bl.Budget(steps=40)).theta[NAME]
    p = images()
    algorithm = ProjectedGradient(Geometric(0.7), batch_size=4, growth=2.5, **options)
    state = algorithm.init(p, p.theta)
    counts = [state.evaluation.samples]
    while state.status is Status.RUNNING and len(counts) < 60:
        state = algorithm.step(p, state)
        counts.append(state.evaluation.samples)
    assert counts[:4] == [4, 10, 25, 40]
    assert state.status in (Status.CONVERGED, Status.STATIONARY, Status.FLOOR)
    assert abs(float(state.evaluation.theta[NAME] - best)) <= 0.01


def test_a_part_ends_nothing_and_proves_nothing() -> None:
    loose = ProjectedGradient(batch_size=4, growth=1.5, tol=1e9)
    fit = bl.learn(images(), loose, budget=bl.Budget(steps=30))
    assert fit.status is Status.CONVERGED
    assert [r.whole for r in fit.history] == [False] * (len(fit.history) - 1) + [True]
    assert all(r.error == float("inf") for r in fit.history[:-1])


def test_the_part_that_grew_equals_the_samples_at_once() -> None:
    p, nested = images(), Nested(seed=3)
    part = nested.first(p, 10).value_and_grad(p.theta, tol=1e-8)
    grown = nested.enlarged(p, part, 25)
    at_once = Sample(p, nested.order(40)[:25]).value_and_grad(p.theta, tol=1e-8)
    assert grown.samples == at_once.samples == 25
    assert grown.corrected == pytest.approx(at_once.corrected, rel=1e-8)
    torch.testing.assert_close(grown.grad, at_once.grad, rtol=1e-5, atol=1e-10)


def test_growing_fits_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILEVEL_COMPILE", "never")
    algorithm = ProjectedGradient(batch_size=4, growth=1.5, accelerated=True)
    whole = bl.learn(images(), algorithm, budget=bl.Budget(steps=6))
    half = bl.learn(images(), algorithm, budget=bl.Budget(steps=3))
    assert not half.history[-1].whole
    half = bl.load(half.save(tmp_path))
    again = bl.learn(images(), algorithm, budget=bl.Budget(steps=3), resume=half)
    assert again.theta == whole.theta
    assert [r.corrected for r in again.history] == [r.corrected for r in whole.history]
    assert again.cost.gradient_evaluations == whole.cost.gradient_evaluations


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"growth": 0.5}, "growth must be at least 1"),
        ({"growth": float("inf"), "batch_size": 2}, "growth must be at least 1"),
        ({"growth": 2.0}, "growth needs a batch_size"),
        ({"growth": 2.0, "batch_size": 0}, "batch_size >= 1"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ProjectedGradient(**options)
