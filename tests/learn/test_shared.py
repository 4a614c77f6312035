"""Problems with one x for all samples; directions of single-loop algorithms in both forms."""

from __future__ import annotations

import math

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.learn.directions import Draw, Iterates, Sampler
from bilevel.model import Bounds
from contracts.quadratics import DOUBLE, Quadratic


@pytest.mark.parametrize("seed", range(5))
def test_hypergradient_is_that_of_the_closed_form(seed: int) -> None:
    quadratic = Quadratic.random(seed)
    w = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    problem = quadratic.problem()
    found = problem.value_and_grad({"w": w}, tol=1e-10)
    assert found.value == pytest.approx(float(quadratic.loss(w)), abs=1e-8)
    assert torch.allclose(found.grad["w"], quadratic.gradient(w), atol=1e-7)
    loose = problem.value_and_grad({"w": w + 1}, tol=1e-3, estimate=True)
    off = float((loose.grad["w"] - quadratic.gradient(w + 1)).norm())
    assert loose.certificate <= 1e-3
    assert off / 4 <= loose.estimate + 1e-12 <= 4 * off + 1e-9


@pytest.mark.parametrize(
    "algorithm",
    [bl.algorithms.MAID(tol=1e-6), bl.algorithms.MAID(accelerated=True, tol=1e-6)],
    ids=["MAID", "accelerated"],
)
def test_algorithms_find_the_solution(algorithm: bl.algorithms.MAID) -> None:
    quadratic = Quadratic.random(7)
    fit = bl.learn(quadratic.problem(), algorithm, budget=bl.Budget(steps=200))
    assert float((fit.theta["w"] - quadratic.solution()).norm()) <= 1e-3


def test_costs_count_samples() -> None:
    problem = Quadratic.random(0).problem()
    problem.value_and_grad(problem.theta, tol=1e-3)
    assert problem.cost.gradient_evaluations % 24 == 0 < problem.cost.gradient_evaluations
    before = problem.cost.gradient_evaluations
    draw = Draw(torch.tensor([0, 3]), torch.tensor([1]))
    problem.directions(problem.theta, problem.iterates(problem.theta), draw)
    assert problem.cost.gradient_evaluations == before + 2


def test_directions_of_all_samples_vanish_at_the_solution() -> None:
    quadratic = Quadratic.random(1)
    w = quadratic.solution()
    problem = quadratic.problem(w)
    x = problem.x({"w": w}, tol=1e-11)
    c, slope = quadratic.c.mean(0), quadratic.slope.mean(0)
    v = -torch.linalg.solve(quadratic.a.mean(0), c @ x + slope)
    at = Iterates(x.view(1, 1, 1, -1), v.view(1, 1, 1, -1))
    everything = Draw(torch.arange(24), torch.arange(20))
    found = problem.directions({"w": w}, at, everything)
    assert max(float(t.abs().max()) for t in (found.x, found.v, found.theta["w"])) <= 1e-8


def test_directions_of_batches_average_to_those_of_all() -> None:
    problem = Quadratic.random(2).problem()
    at = Iterates(torch.ones(1, 1, 1, 6, dtype=DOUBLE), 2 * torch.ones(1, 1, 1, 6, dtype=DOUBLE))
    sampler = [Sampler(count, 4, 0, name) for count, name in ((24, "lower"), (20, "upper"))]
    whole = problem.directions(problem.theta, at, Draw(torch.arange(24), torch.arange(20)))
    lower = [Draw(sampler[0].batch(k), torch.arange(20)) for k in range(6)]
    found = [problem.directions(problem.theta, at, draw) for draw in lower]
    assert torch.allclose(sum(f.x for f in found) / 6, whole.x)
    assert torch.allclose(sum(f.v for f in found) / 6, whole.v)
    upper = [Draw(torch.arange(24), sampler[1].batch(k)) for k in range(5)]
    found = [problem.directions(problem.theta, at, draw) for draw in upper]
    assert torch.allclose(sum(f.theta["w"] for f in found) / 5, whole.theta["w"])
    assert math.isclose(sum(f.value for f in found) / 5, whole.value)


def test_directions_of_images_are_those_of_the_parts() -> None:
    images = bl.data.embedded_images(size=16).double()
    pairs = bl.data.simulate(images, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(0.1)).double()
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    at = problem.iterates(problem.theta)
    at = Iterates(at.x + 0.01 * torch.randn_like(at.x), torch.randn_like(at.x))
    ids = torch.tensor([5, 2])
    found = problem.directions(problem.theta, at, Draw(ids, ids))
    objective = energy.at(pairs.y[ids])
    x, v = at.x[ids], at.v[ids]
    assert torch.allclose(found.x, objective.grad(x))
    pull = problem.loss.grad(x, pairs.target[ids])
    assert torch.allclose(found.v, objective.hessian(x)(v) + pull)
    cross = objective.cross_vjp(x, v)
    assert all(torch.allclose(found.theta[name], cross[name] / 2) for name in cross)


def test_every_epoch_sees_every_sample_once() -> None:
    sampler = Sampler(10, 3, seed=1, name="lower")
    for epoch in range(3):
        numbers = [sampler.number(sampler.batches * epoch + t) for t in range(sampler.batches)]
        seen = torch.cat([sampler.batch(number) for number in numbers])
        assert sorted(seen.tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bl.FiniteSum(0, lambda x, theta, ids: x.sum()), "at least one sample"),
        (lambda: Sampler(3, 4, 0, "lower"), "batch_size"),
        (lambda: shared(theta={}), "no learnable parameter"),
        (lambda: shared(theta={"w": torch.tensor([math.nan])}), "w must be finite"),
        (lambda: shared(bounds=Bounds.of(1.0, 2.0)), "float64"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def shared(theta: bl.Theta | None = None, **options: Bounds) -> bl.SharedProblem:
    total = bl.FiniteSum(2, lambda x, theta, ids: x.square().sum())
    start = {"w": torch.zeros(2)} if theta is None else theta
    return bl.SharedProblem(total, total, start, torch.zeros(2), **options)


def test_the_estimate_covers_what_the_loss_owes_to_theta_directly() -> None:
    quadratic = Quadratic.random(3)
    coupled = bl.FiniteSum(
        20, lambda x, theta, ids: quadratic.upper(x, theta, ids) + 30 * x[:3] @ theta["w"]
    )
    lower = bl.FiniteSum(24, quadratic.lower)
    w = torch.ones(3, dtype=DOUBLE)
    start = torch.zeros(6, dtype=DOUBLE)
    plain = bl.solvers.GradientDescent()
    exact = bl.SharedProblem(lower, coupled, {"w": w}, start)
    truth = exact.value_and_grad({"w": w}, tol=1e-11).grad["w"]
    eigenvalues = torch.linalg.eigvalsh(quadratic.a.mean(0))
    bounds = Bounds.of(eigenvalues[0], eigenvalues[-1])
    for tol in (1e-2, 1e-3, 1e-4):
        loose = bl.SharedProblem(lower, coupled, {"w": w}, start, bounds=bounds, solver=plain)
        found = loose.value_and_grad({"w": w}, tol=tol, estimate=True)
        off = float((found.grad["w"] - truth).norm())
        assert off / 3 <= found.estimate <= 10 * off + 1e-9


def test_continued_where_no_constants_are_declared() -> None:
    quadratic = Quadratic.random(4)

    def problem() -> bl.SharedProblem:
        return bl.SharedProblem(
            bl.FiniteSum(24, quadratic.lower),
            bl.FiniteSum(20, quadratic.upper),
            {"w": torch.zeros(3, dtype=DOUBLE)},
            torch.zeros(6, dtype=DOUBLE),
        )

    saba, threads = bl.algorithms.SABA(batch_size=4), torch.get_num_threads()
    torch.set_num_threads(1)
    whole = bl.learn(problem(), saba, budget=bl.Budget(steps=4))
    half = bl.learn(problem(), saba, budget=bl.Budget(steps=2))
    again = bl.learn(problem(), saba, budget=bl.Budget(steps=2), resume=half)
    torch.set_num_threads(threads)
    assert torch.equal(whole.theta["w"], again.theta["w"])
