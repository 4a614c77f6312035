"""BiCGStab: what every solver promises, and maps that are not symmetric."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given

from bilevel.ground.rows import norm
from bilevel.linear import LinearMap, LinearStatus, bicgstab
from contracts.linear_solvers import (
    SYSTEMS,
    LinearSolverContract,
    Random,
    RandomSquare,
    Recorded,
    dense,
    spread,
    square,
)


class TestBicgstab(LinearSolverContract):
    solve = staticmethod(bicgstab)
    per_step = 2


@given(SYSTEMS)
def test_agrees_with_a_dense_solve(system: dict[str, Any]) -> None:
    Random(**system).check(bicgstab, definite=True)


@given(SYSTEMS)
def test_agrees_with_a_dense_solve_that_is_not_symmetric(system: dict[str, Any]) -> None:
    RandomSquare(**system).check(bicgstab)


def test_two_applications_a_step() -> None:
    recorded = Recorded(dense(torch.eye(20) + square(spread(3, 20, 3.0)) / 3))
    solution = bicgstab(recorded.map, torch.randn(3, 20).double(), rtol=1e-8).require()
    assert solution.applications == sum(recorded.sizes)
    assert solution.applications == 2 * int(solution.steps.sum()) + 3


def test_a_breakdown_is_told_and_leaves_the_start() -> None:
    turn = LinearMap.shared(lambda v: v.roll(1, 1) * torch.tensor([1.0, -1.0]))
    b = torch.ones(1, 2)
    solution = bicgstab(turn, b, rtol=1e-6)
    assert solution.status.tolist() == [LinearStatus.STALLED]
    assert bool((solution.residual <= norm(b)).all())
    assert bool(torch.isfinite(solution.x).all())
