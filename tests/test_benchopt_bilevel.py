"""The simulated quadratics of the benchopt benchmark against their closed form."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import bilevel as bl

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "benchopt_bilevel"))

from benchmark_utils.quadratics import Quadratics


@pytest.mark.parametrize("seed", range(3))
def test_minimum_is_that_of_the_problem(seed: int) -> None:
    data = Quadratics.random(64, 48, 6, 0.1, 1.0, 0.1, seed)
    hessian, linear, constant = data.reduced()
    best = -torch.linalg.solve(hessian, linear)
    problem = data.problem()
    found = problem.value_and_grad({"w": best}, tol=1e-9)
    assert found.value == pytest.approx(data.minimum(), abs=1e-7)
    assert float(found.grad["w"].norm()) <= 1e-6
    start = problem.value_and_grad({"w": torch.zeros_like(best)}, tol=1e-9)
    assert start.value == pytest.approx(constant, abs=1e-7)
    assert torch.allclose(start.grad["w"], linear, atol=1e-6)


def test_accelerated_maid_comes_near_to_the_minimum() -> None:
    data = Quadratics.random(64, 48, 6, 0.1, 1.0, 0.1, 0)
    algorithm = bl.algorithms.MAID(accelerated=True, tol=1e-5)
    fit = bl.learn(data.problem(), algorithm, budget=bl.Budget(steps=30))
    assert data.problem().value(fit.theta, tol=1e-8) <= data.minimum() + 1e-6
