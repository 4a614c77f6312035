"""GMRES: what every solver promises, and maps that are not symmetric."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bilevel.ground.errors import InputError
from bilevel.ground.rows import norm
from bilevel.linear import GMRES, LinearMap, LinearStatus, gmres
from contracts.linear_solvers import (
    SYSTEMS,
    LinearSolverContract,
    Random,
    RandomSquare,
    dense,
    spread,
    square,
)


class TestGmres(LinearSolverContract):
    solve = staticmethod(gmres)


@given(SYSTEMS, st.booleans())
def test_agrees_with_a_dense_solve(system: dict[str, Any], definite: bool) -> None:
    Random(**system).check(gmres, definite=definite)


@given(SYSTEMS)
def test_agrees_with_a_dense_solve_that_is_not_symmetric(system: dict[str, Any]) -> None:
    RandomSquare(**system).check(gmres)


def test_restarted_agrees_with_a_dense_solve() -> None:
    matrices, b = torch.eye(40) + square(spread(5, 40, 3.0)) / 3, torch.randn(5, 40).double()
    for restart in (1, 3, 10):
        solution = GMRES(restart)(dense(matrices), b, rtol=1e-9).require()
        torch.testing.assert_close(solution.x, torch.linalg.solve(matrices, b))
        assert int(solution.steps.min()) > restart, "there was a restart"


def test_a_rotation_takes_as_many_steps_as_there_are_dimensions() -> None:
    shift = LinearMap.shared(lambda v: v.roll(1, 1))
    b = torch.zeros(1, 12).double()
    b[0, 0] = 1
    solution = gmres(shift, b, rtol=1e-12).require()
    assert solution.steps.tolist() == [12]
    torch.testing.assert_close(solution.x, b.roll(-1, 1))


def test_the_residual_never_grows() -> None:
    operator, b = dense(square(spread(5, 30, 1e3))), torch.randn(5, 30).double()
    x0 = torch.randn(5, 30).double()
    last = norm(b - operator(x0))
    for max_steps in range(30):
        residual = GMRES(7)(operator, b, x0=x0, max_steps=max_steps).residual
        assert bool((residual <= last * (1 + 1e-10)).all())
        last = residual


def test_singular_maps_without_a_solution_are_told() -> None:
    matrices = square(spread(4, 10, 10.0))
    matrices[1, :, 3] = 0
    nilpotent = torch.diag(torch.ones(9), 1).double()
    matrices[2] = nilpotent
    b = torch.randn(4, 10).double()
    solution = gmres(dense(matrices), b, rtol=1e-8)
    expected = [LinearStatus.CONVERGED, LinearStatus.SINGULAR, LinearStatus.SINGULAR]
    assert solution.status.tolist() == [*expected, LinearStatus.CONVERGED]
    assert bool((solution.residual <= norm(b)).all())
    assert bool((norm(solution.x) <= 1e4 * norm(b)).all())


def test_zero_operator() -> None:
    solution = gmres(LinearMap.shared(torch.zeros_like), torch.ones(1, 3), rtol=1e-3)
    assert solution.status.tolist() == [LinearStatus.SINGULAR]
    assert solution.x.tolist() == [[0.0, 0.0, 0.0]]


def test_a_restart_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        GMRES(restart=0)
