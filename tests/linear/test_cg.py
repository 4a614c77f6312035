"""Conjugate gradients: what every solver promises, and what it does where A is not definite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bilevel.ground.rows import inner, norm
from bilevel.linear import LinearMap, LinearStatus, cg
from contracts.linear_solvers import (
    DTYPES,
    SYSTEMS,
    LinearSolverContract,
    Random,
    dense,
    diagonal,
    spectral,
    spread,
)


class TestCG(LinearSolverContract):
    solve = staticmethod(cg)


@given(SYSTEMS)
def test_agrees_with_a_dense_solve(system: dict[str, Any]) -> None:
    Random(**system).check(cg, definite=True)


def energy(operator: LinearMap, b: Tensor, x: Tensor) -> Tensor:
    return inner(x, operator(x)) / 2 - inner(b, x)


def test_as_many_steps_as_eigenvalues() -> None:
    operator = diagonal([1.0, 1.0, 5.0, 5.0, 9.0], [2.0, 2.0, 2.0, 3.0, 3.0])
    assert cg(operator, torch.ones(2, 5).double(), rtol=1e-10).steps.tolist() == [3, 2]


def test_negative_curvature_at_the_first_step() -> None:
    b = torch.tensor([[1.0, 0.1]] * 2).double()
    solution = cg(diagonal([-1.0, 2.0], [1.0, 2.0]), b, rtol=1e-6)
    expected = [LinearStatus.NEGATIVE_CURVATURE, LinearStatus.CONVERGED]
    assert solution.status.tolist() == expected
    assert solution.x[0].tolist() == [0.0, 0.0]


def test_negative_curvature_later_keeps_the_iterate() -> None:
    operator, b = diagonal([1.0, 2.0, 3.0, -0.1]), torch.tensor([[1.0, 1.0, 1.0, 0.5]]).double()
    solution = cg(operator, b, rtol=1e-10)
    assert solution.status.tolist() == [LinearStatus.NEGATIVE_CURVATURE]
    assert int(solution.steps) > 1
    assert bool((energy(operator, b, solution.x) < 0).all())


def test_zero_curvature() -> None:
    b = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).double()
    solution = cg(diagonal([1.0, 0.0], [1.0, 0.0]), b, rtol=1e-6)
    expected = [LinearStatus.NEGATIVE_CURVATURE, LinearStatus.CONVERGED]
    assert solution.status.tolist() == expected
    assert solution.x[1].tolist() == [1.0, 0.0]


def test_zero_operator() -> None:
    solution = cg(LinearMap.shared(torch.zeros_like), torch.ones(1, 3), rtol=1e-3)
    assert solution.status.tolist() == [LinearStatus.NEGATIVE_CURVATURE]


@pytest.mark.parametrize("n", [4, 20])
@pytest.mark.parametrize("dtype", DTYPES)
def test_curvature_that_is_zero_but_for_rounding(n: int, dtype: torch.dtype) -> None:
    eigenvalues = spread(65, n, 30.0)
    eigenvalues[:-1, n // 2 :] = 0
    operator, b = dense(spectral(eigenvalues).to(dtype)), torch.randn(65, n, dtype=dtype)
    solution = cg(operator, b, rtol=1e-5)
    assert solution.status.tolist() == [LinearStatus.NEGATIVE_CURVATURE] * 64 + [1]
    assert int(solution.steps[:-1].median()) <= n


@given(seed=st.integers(0, 2**31), n=st.integers(2, 15))
def test_never_claims_what_is_not_so_on_indefinite_maps(seed: int, n: int) -> None:
    torch.manual_seed(seed)
    operator, b = dense(spectral(torch.randn(4, n).double())), torch.randn(4, n).double()
    solution = cg(operator, b, rtol=1e-3)
    met = norm(b - operator(solution.x)) <= 1e-3 * norm(b) * (1 + 1e-5)
    assert torch.equal(solution.converged, met)


def test_few_steps_come_closer_even_where_the_residual_grows() -> None:
    scales, b = torch.ones(1, 200).double(), torch.ones(1, 200).double()
    scales[:, :2] = 900.0
    operator = LinearMap.shared(lambda v: scales * v)
    solution = cg(operator, b, rtol=1e-8, max_steps=1)
    assert float(solution.residual) > float(norm(b))
    assert float(norm(solution.x - b / scales)) < float(norm(b / scales))
    assert solution.status.tolist() == [LinearStatus.MAX_STEPS]
