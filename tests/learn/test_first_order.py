"""Algorithms without second derivatives: what they converge to, cost, continuation, options."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.learn.algorithms import F2SA
from bilevel.learn.algorithms.loss_scale import LossScale
from bilevel.learn.algorithms.single_loop import SingleLoop
from bilevel.learn.directions import Draw, Iterates
from contracts.quadratics import DOUBLE, Quadratic

NAME = "regulariser.log_weight"
TINY = 1e-30
WHOLE = Draw(torch.arange(24), torch.arange(20))


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


def reached(algorithm: SingleLoop, quadratic: Quadratic, seed: int, steps: int) -> torch.Tensor:
    p = quadratic.problem(near(quadratic, seed))
    state = algorithm.init(p, p.theta)
    for _ in range(steps):
        state = algorithm.step(p, state)
    return state.evaluation.theta["w"]


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
        lower = p.energy.at(p.pairs.y[rows], at).value(there)
        return torch.stack([lower, p.loss.value(there, p.pairs.target[rows])]).mean(1)

    s = 1e-5
    by_x = (levels(s, 0.0) - levels(-s, 0.0)) / (2 * s)
    by_theta = (levels(0.0, s) - levels(0.0, -s)) / (2 * s)
    inner = [(found.lower * move).sum() / len(rows), (found.upper * move).sum() / len(rows)]
    assert torch.allclose(torch.stack(inner), by_x, rtol=1e-6)
    cross = [algebra.inner(found.lower_theta, turn), algebra.inner(found.upper_theta, turn)]
    assert torch.allclose(torch.tensor(cross, dtype=DOUBLE), by_theta, rtol=1e-6, atol=1e-9)
    assert found.value == pytest.approx(float(levels(0.0, 0.0)[1]))


@pytest.mark.parametrize("penalty", [1e2, 1e3])
def test_f2sa_without_noise_finds_the_minimiser_of_the_penalty_function(penalty: float) -> None:
    """At a constant λ, to rounding; itself it is within O(1/λ) of the solution."""
    q = Quadratic.random(0)
    p = q.problem(near(q, 0))
    scale = LossScale.at(p, p.theta, p.iterates(p.theta))
    options = {"batch_size": 24, "inner_step": 1.0, "outer_step": 0.1, "decay": 0.0}
    algorithm = F2SA(penalty=penalty, growth=0.0, iterations=200, tol=TINY, **options)
    state = algorithm.init(p, p.theta)
    for _ in range(8):
        state = algorithm.step(p, state)
    scale = state.memory
    assert isinstance(scale, LossScale)
    goal = penalised(q, penalty * scale.value)
    off = float((state.evaluation.theta["w"] - goal).norm())
    print(penalty, scale, off, float((goal - q.solution()).norm()))
    assert off < 1e-6 < float((goal - q.solution()).norm())
