"""Algorithms without second derivatives: what they converge to, cost, continuation, options."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.differentiate import EquilibriumPropagation
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.learn.algorithms import BOME, F2SA, MAID
from bilevel.learn.directions import Draw, Iterates
from bilevel.learn.loops.loss_scale import LossScale
from bilevel.learn.loops.single_loop import Now, SingleLoop, SingleLoopState
from contracts.quadratics import DOUBLE, Quadratic

NAME = "regulariser.log_weight"
TINY = 1e-30


def imaging(weight: float) -> bl.BilevelProblem:
    images = bl.data.embedded_images(size=16).double()[:6]
    noise = bl.data.GaussianNoise(0.1)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=0)
    tv = bl.regularisers.TotalVariation(weight, 0.05, learn=("weight",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    return bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)


def penalised(quadratic: Quadratic, penalty: float) -> torch.Tensor:
    """argmin over w of min_x ℓ + λ (J - min J), by its stationarity in (x, w)."""
    ids = torch.arange(len(quadratic.a)), torch.arange(len(quadratic.c))
    d, p = quadratic.b.shape[1:]

    def total(both: torch.Tensor) -> torch.Tensor:
        x, w = both[:d], {"w": both[d:]}
        b = quadratic.b.mean(0) @ both[d:] + quadratic.offset.mean(0)
        least = -torch.linalg.solve(quadratic.a.mean(0), b)
        gap = quadratic.lower(x, w, ids[0]) - quadratic.lower(least, w, ids[0])
        return quadratic.upper(x, w, ids[1]) + penalty * gap

    zero = torch.zeros(d + p, dtype=DOUBLE)
    slope = torch.autograd.functional.jacobian(total, zero)
    return -torch.linalg.solve(torch.autograd.functional.hessian(total, zero), slope)[d:]


def near(quadratic: Quadratic, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return quadratic.solution() + torch.randn(3, generator=g, dtype=DOUBLE)


def reached(algorithm: SingleLoop, seed: int, steps: int) -> list[SingleLoopState]:
    """The states after each outer step, from a random start."""
    q = Quadratic.random(seed)
    p = q.problem(near(q, seed))
    states = [algorithm.init(p, p.theta)]
    for _ in range(steps):
        states.append(algorithm.step(p, states[-1]))
    return states


def distance(state: SingleLoopState, goal: torch.Tensor) -> float:
    return float((state.evaluation.theta["w"] - goal).norm())


@pytest.mark.parametrize("separable", [False, True], ids=["shared", "images"])
def test_slopes_are_those_that_differences_give(separable: bool) -> None:
    p = imaging(0.2) if separable else Quadratic.random(3).problem()
    draw = Draw(torch.tensor([1, 4]), torch.tensor([1, 4]))
    rows = p.rows(draw)
    g = torch.Generator().manual_seed(0)
    x = p.iterates(p.theta).x[rows]
    x = x + 0.1 * torch.randn(x.shape, generator=g, dtype=DOUBLE)
    theta = {k: v + 0.1 for k, v in p.theta.items()}
    found = p.slopes(theta, x, draw)
    move = torch.randn(x.shape, generator=g, dtype=DOUBLE)
    turn = {k: torch.randn(v.shape, generator=g, dtype=DOUBLE) for k, v in theta.items()}

    def levels(s: float, t: float) -> torch.Tensor:
        at, there = algebra.add(theta, turn, t), x + s * move
        if isinstance(p, bl.SharedProblem):
            flat = there.view(p.shape)
            return torch.stack(
                [p.lower.mean(flat, at, draw.inner), p.upper.mean(flat, at, draw.outer)]
            )
        lower = p.energy.at(p.samples.y[rows], at).value(there)
        return torch.stack([lower, p.loss.value(there, p.samples.target[rows])]).mean(1)

    s = 1e-5
    by_x = (levels(s, 0.0) - levels(-s, 0.0)) / (2 * s)
    by_theta = (levels(0.0, s) - levels(0.0, -s)) / (2 * s)
    inner = [(found.lower * move).sum() / len(rows), (found.upper * move).sum() / len(rows)]
    assert torch.allclose(torch.stack(inner), by_x, rtol=1e-6)
    cross = [algebra.inner(found.lower_theta, turn), algebra.inner(found.upper_theta, turn)]
    assert torch.allclose(torch.tensor(cross, dtype=DOUBLE), by_theta, rtol=1e-6, atol=1e-9)
    assert found.value == pytest.approx(float(levels(0.0, 0.0)[1]))


ALL: dict[str, float] = {"batch_size": 24, "inner_step": 1.0, "tol": TINY}


@pytest.mark.parametrize("penalty", [1e2, 1e3])
def test_f2sa_without_noise_finds_the_minimiser_of_the_penalty_function(penalty: float) -> None:
    """For a constant λ, to rounding; this minimiser is within O(1/λ) of the solution."""
    q = Quadratic.random(0)
    algorithm = F2SA(outer_step=0.1, decay=0.0, penalty=penalty, growth=0.0, iterations=50, **ALL)
    last = reached(algorithm, 0, 12)[-1]
    assert isinstance(last.memory, LossScale)
    goal, further = (penalised(q, k * penalty * last.memory.value) for k in (1, 10))
    bias, less = (float((w - q.solution()).norm()) for w in (goal, further))
    assert distance(last, goal) < 1e-8 < bias
    assert less == pytest.approx(bias / 10, rel=0.1)


def test_f2sa_comes_closer_as_its_penalty_grows() -> None:
    q = Quadratic.random(0)
    algorithm = F2SA(outer_step=0.1, decay=0.0, growth=1 / 3, iterations=60, **ALL)
    off = [distance(state, q.solution()) for state in reached(algorithm, 0, 9)]
    stay = float((penalised(q, 100.0) - q.solution()).norm())
    assert off[9] < off[6] < off[3] < stay / 2


@pytest.mark.parametrize("seed", range(2))
def test_f2sa_converges_with_noise_at_both_levels(seed: int) -> None:
    states = reached(F2SA(batch_size=4, outer_step=0.1, tol=TINY), seed, 40)
    first, last = (distance(states[k], Quadratic.random(seed).solution()) for k in (0, -1))
    assert last < 0.05 < first


def test_bome_stalls_with_constant_steps_and_converges_with_decreasing_ones() -> None:
    goal = Quadratic.random(0).solution()
    off: dict[float, list[float]] = {}
    for decay, steps in ((0.0, 4), (0.5, 12)):
        algorithm = BOME(
            outer_step=0.1, inner_steps=4, penalty=5.0, decay=decay, iterations=50, **ALL
        )
        off[decay] = [distance(state, goal) for state in reached(algorithm, 0, steps)]
    assert off[0.0][-1] == pytest.approx(off[0.0][-2], rel=0.05)
    assert off[0.5][12] < off[0.5][8] < off[0.5][4]
    assert off[0.5][12] < off[0.0][-1] / 2


@pytest.mark.parametrize("seed", range(3))
def test_bome_lowers_the_gap_at_the_rate_asked_for(seed: int) -> None:
    """Exactly, to first order, where the loss pulls towards larger J."""
    q = Quadratic.random(seed)
    p = q.problem(near(q, seed))
    g = torch.Generator().manual_seed(seed)
    whole = Draw(torch.arange(24), torch.arange(20))
    least = p.x(p.theta, tol=1e-9).view(1, 1, 1, 6)
    off = 0.01 * torch.randn(1, 1, 1, 6, generator=g, dtype=DOUBLE)
    both = ((x, p.slopes(p.theta, x, whole)) for x in (least + off, least - off))
    x, found = next((x, f) for x, f in both if float((f.lower * f.upper).sum()) < 0)
    step = 1e-5
    algorithm = BOME(24, inner_step=step)
    at = Iterates(x.clone(), torch.zeros_like(x))
    memory = LossScale.at(p, p.theta, at)
    algorithm.advance(p, Now(p.theta, at, 0, memory, length=1e-12))
    before, after = (q.lower(v.flatten(), p.theta, whole.inner) for v in (x, at.x))
    asked = 0.5 * step / float(p.lipschitz(p.theta)) * float(found.lower.square().sum())
    assert float(before - after) == pytest.approx(asked, rel=0.02)


BOTH: dict[str, SingleLoop] = {"F²SA": F2SA(batch_size=2), "BOME": BOME(batch_size=2)}


@pytest.mark.parametrize("separable", [False, True], ids=["shared", "images"])
@pytest.mark.parametrize("name", BOTH)
def test_iterations_take_no_second_derivatives(name: str, separable: bool) -> None:
    p = imaging(0.2) if separable else Quadratic.random(0).problem()
    algorithm = replace(BOTH[name], tol=TINY)
    state = algorithm.init(p, p.theta)
    before = p.cost + bl.model.Cost()
    algorithm.step(p, state)
    assert p.cost.hvps == before.hvps
    assert p.cost.gradient_evaluations > before.gradient_evaluations


@pytest.mark.parametrize("name", BOTH)
def test_nor_does_the_start_if_the_hypergradient_takes_none(name: str) -> None:
    p = imaging(0.3)
    p.level.hypergradient = EquilibriumPropagation()
    fit = bl.learn(p, replace(BOTH[name], tol=TINY), budget=bl.Budget(steps=5))
    assert p.cost.hvps == 0
    first, last = (p.value(theta, tol=1e-6) for theta in (p.theta, fit.theta))
    assert last < first


@pytest.fixture(scope="module")
def best() -> float:
    fit = bl.learn(imaging(0.1), MAID(accelerated=True, tol=1e-5), budget=bl.Budget(steps=60))
    return float(fit.theta[NAME])


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_images_land_near_the_best_weight(name: str, factor: float, best: float) -> None:
    p = imaging(factor * math.exp(best))
    fit = bl.learn(p, BOTH[name], budget=bl.Budget(steps=40))
    assert abs(float(fit.theta[NAME]) - best) <= 0.2


@pytest.mark.parametrize("separable", [False, True], ids=["shared", "images"])
@pytest.mark.parametrize("name", BOTH)
def test_steps_in_two_parts_equal_those_at_once(name: str, separable: bool, tmp_path: Path) -> None:
    def problem() -> bl.BilevelProblem:
        return imaging(0.2) if separable else Quadratic.random(0).problem()

    algorithm = replace(BOTH[name], outer_step=None if separable else 0.01, decay=0.3)
    whole = bl.learn(problem(), algorithm, budget=bl.Budget(steps=4))
    half = bl.learn(problem(), algorithm, budget=bl.Budget(steps=2))
    kept = bl.load(half.save(tmp_path)) if separable else half
    fit = bl.learn(problem(), algorithm, budget=bl.Budget(steps=2), resume=kept)
    assert all(torch.equal(fit.theta[name], whole.theta[name]) for name in whole.theta)
    assert [r.value for r in fit.history] == [r.value for r in whole.history]
    assert fit.history[-1].cost.gradient_evaluations == whole.history[-1].cost.gradient_evaluations


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F2SA(penalty=0.0), "penalty must be a positive"),
        (lambda: F2SA(growth=-0.1), "growth must be"),
        (lambda: F2SA(batch_size=0), "batch_size must be at least 1"),
        (lambda: BOME(penalty=math.nan), "penalty must be a positive"),
        (lambda: BOME(barrier=0.0), "barrier must be a positive"),
        (lambda: BOME(inner_steps=0), "inner_steps must be at least 1"),
        (lambda: BOME(precondition="adam"), "one metric"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
