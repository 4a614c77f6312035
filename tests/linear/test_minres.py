"""MINRES: what every solver promises, and indefinite and singular maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bilevel.ground.errors import NotCertified
from bilevel.ground.rows import norm
from bilevel.linear import LinearMap, LinearStatus, minres
from contracts.linear_solvers import (
    DTYPES,
    SYSTEMS,
    LinearSolverContract,
    Random,
    Recorded,
    dense,
    diagonal,
    spectral,
    spread,
)


class TestMinres(LinearSolverContract):
    solve = staticmethod(minres)


def signed(b: int, n: int, condition: float) -> Tensor:
    values = spread(b, n, condition)
    values[:, n // 2 :] *= -1
    return values


def singular(b: int, n: int, condition: float) -> Tensor:
    values = signed(b, n, condition)
    values[:, 1 : n // 2] = 0
    return values


@given(SYSTEMS, st.booleans())
def test_agrees_with_a_dense_solve(system: dict[str, Any], definite: bool) -> None:
    Random(**system).check(minres, definite=definite)


def test_no_curvature_along_the_right_hand_side() -> None:
    swap = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).double()
    solution = minres(dense(swap), torch.tensor([[1.0, 0.0]]).double(), rtol=1e-12).require()
    torch.testing.assert_close(solution.x, torch.tensor([[0.0, 1.0]]).double())


def test_the_residual_never_grows() -> None:
    operator, b = dense(spectral(signed(5, 30, 1e3))), torch.randn(5, 30).double()
    x0 = torch.randn(5, 30).double()
    last = norm(b - operator(x0))
    for max_steps in range(30):
        residual = minres(operator, b, x0=x0, max_steps=max_steps).residual
        assert bool((residual <= last * (1 + 1e-10)).all())
        last = residual


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [4, 20])
def test_singular_with_a_solution_gives_the_shortest(dtype: torch.dtype, n: int) -> None:
    matrices = spectral(singular(6, n, 30.0))
    b = (matrices @ torch.randn(6, n, 1).double())[..., 0]
    rtol = 1e-10 if dtype == torch.float64 else 1e-5
    solution = minres(dense(matrices.to(dtype)), b.to(dtype), rtol=rtol).require()
    shortest = (torch.linalg.pinv(matrices, rtol=1e-6) @ b[..., None])[..., 0]
    assert bool((norm(solution.x - shortest) <= 300 * rtol * norm(shortest)).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [4, 20])
def test_singular_without_a_solution_says_so(dtype: torch.dtype, n: int) -> None:
    matrices = spectral(singular(50, n, 30.0))
    b = torch.randn(50, n, dtype=dtype)
    solution = minres(dense(matrices.to(dtype)), b, rtol=1e-5)
    assert solution.status.tolist() == [LinearStatus.SINGULAR] * 50
    best = b - (matrices @ torch.linalg.pinv(matrices, rtol=1e-6) @ b.double()[..., None])[..., 0]
    assert bool((solution.residual <= norm(best) * (1 + 1e-4)).all())
    assert bool((norm(solution.x) <= 1000 * norm(b)).all())
    with pytest.raises(NotCertified, match=r"45 more.*least-squares"):
        solution.require()


def test_a_solvable_row_beside_a_singular_one() -> None:
    operator = diagonal([1.0, -2.0, 0.0], [1.0, -2.0, 3.0])
    solution = minres(operator, torch.ones(2, 3).double(), rtol=1e-8)
    assert solution.status.tolist() == [LinearStatus.SINGULAR, LinearStatus.CONVERGED]
    torch.testing.assert_close(solution.x[0, :2], torch.tensor([1.0, -0.5]).double())
    assert float(solution.residual[0]) == pytest.approx(1.0)


def test_a_right_hand_side_in_the_null_space() -> None:
    solution = minres(diagonal([1.0, 0.0]), torch.tensor([[0.0, 2.0]]).double(), rtol=1e-8)
    assert solution.status.tolist() == [LinearStatus.SINGULAR]
    assert (solution.x.tolist(), float(solution.residual)) == ([[0.0, 0.0]], 2.0)


def test_a_right_hand_side_in_the_null_space_but_for_rounding() -> None:
    basis = torch.linalg.qr(torch.randn(20, 6, 6).double())[0]
    matrices = (basis * torch.tensor([1.0, 2.0, 3.0, -4.0, 5.0, 0.0]).double()) @ basis.mT
    b = basis[:, :, -1]
    solution = minres(dense(matrices), b, rtol=1e-8)
    assert not bool(solution.converged.any())
    assert bool((solution.residual <= norm(b)).all())


def test_every_application_is_counted() -> None:
    recorded = Recorded(diagonal([1.0, 0.0], [1.0, 2.0]))
    solution = minres(recorded.map, torch.ones(2, 2).double(), rtol=1e-8)
    assert solution.status.tolist() == [LinearStatus.SINGULAR, LinearStatus.CONVERGED]
    assert solution.applications == sum(recorded.sizes)


def test_a_least_squares_solution_is_found_past_a_small_eigenvalue() -> None:
    b = torch.tensor([[1.0, 1.0, 0.1]])
    solution = minres(diagonal([1.0, 1e-4, 0.0], dtype=torch.float32), b, rtol=1e-5)
    assert solution.status.tolist() == [LinearStatus.SINGULAR]
    torch.testing.assert_close(solution.x[:, :2], torch.tensor([[1.0, 1e4]]), rtol=1e-3, atol=0.0)


def test_ill_conditioned_is_not_singular() -> None:
    for n in (5, 20):
        operator = dense(spectral(spread(64, n, 1e6)).float())
        solution = minres(operator, torch.randn(64, n), rtol=1e-5)
        assert solution.status.tolist() == [LinearStatus.STALLED] * 64


@pytest.mark.parametrize("n", [2, 3, 5])
def test_what_rounding_leaves_is_not_taken_for_singular(n: int) -> None:
    matrices = spectral(signed(2000, n, 1e4))
    b = (matrices @ torch.randn(2000, n, 1).double())[..., 0].float()
    solution = minres(dense(matrices.float()), b, rtol=1e-13)
    assert not bool((solution.status == LinearStatus.SINGULAR).any())
    assert bool((solution.residual <= 1e-2 * norm(b)).all())


def test_zero_operator() -> None:
    solution = minres(LinearMap.shared(torch.zeros_like), torch.ones(1, 3), rtol=1e-3)
    assert solution.status.tolist() == [LinearStatus.SINGULAR]


@pytest.mark.parametrize("small", [1e-3, 1e-4, 1e-5])
def test_small_eigenvalues_are_not_taken_for_none(small: float) -> None:
    operator = diagonal([1.0, small], [-small, 1.0], dtype=torch.float32)
    solution = minres(operator, torch.ones(2, 2), rtol=1e-4).require()
    expected = torch.tensor([[1.0, 1 / small], [-1 / small, 1.0]])
    assert bool((norm(solution.x - expected) <= 1e-3 / small).all())
