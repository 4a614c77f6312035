"""Bounds that hypergradient methods claim are never violated."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

import bilevel as bl
from bilevel.differentiate import EquilibriumPropagation, Implicit, Upper, ValueFunction
from bilevel.ground import theta as algebra
from bilevel.solve import Tolerance, certify, minimise
from bilevel.solve.solvers import LBFGS
from contracts.bounds import claims, known
from contracts.hypergradients import BOUNDED, LOSS, NON_CONVEX, problem
from contracts.rows import rows
from contracts.zoo import OPERATORS, REGULARISERS, Case, make, reference


@pytest.mark.parametrize(
    ("operator", "regulariser", "seed"), rows(OPERATORS, REGULARISERS, range(300, 305))
)
def test_bounds_hold(operator: str, regulariser: str, seed: int) -> None:
    """Of gradients and of values, in float64 and float32."""
    loss = bl.losses.SquaredError() if seed % 3 else bl.losses.PSNR()
    for claim in claims(known(operator, regulariser, seed, loss), seed):
        assert math.isfinite(claim.bound) or claim.method == "unrolled"
        assert not claim.violated, claim


@pytest.mark.parametrize("regulariser", ["tv charbonnier", "tv huber", "foe log-cosh"])
def test_bounds_of_differences_hold_in_float32(regulariser: str) -> None:
    """Where the rounding of ∂_θJ, divided by s, is most of the error."""
    case = make("circular", regulariser, 80, torch.float32)
    double = Case(copy.deepcopy(case.energy).double(), case.y.double(), case.target.double())
    lower, upper = case.energy.at(case.y), Upper(LOSS, case.target)
    tol = Tolerance(rms=1e-9)
    near = minimise(double.energy.at(double.y), LBFGS(), tol=tol, max_steps=2000)
    exact = reference(double.energy, near.x, double.y)
    above = double.energy.at(double.y)
    at = replace(near, x=exact, certificate=certify(above, exact))
    truth = Implicit()(above, Upper(LOSS, double.target), at, rtol=1e-13)
    solution = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-4))
    for strength in (1e-1, 1e-3, 1e-5, 1e-7):
        for method in (EquilibriumPropagation(strength), ValueFunction(1 / strength)):
            found = method(lower, upper, solution, rtol=1e-2)
            assert {v.dtype for v in found.grad.values()} == {torch.float32}
            grad = {k: v.double() for k, v in found.grad.items()}
            assert algebra.norm(algebra.add(grad, truth.grad, -1.0)) <= found.bound
            assert bool(((found.corrected - truth.value).abs() <= found.interval).all())


def test_nothing_is_proved_where_no_curvature_is() -> None:
    p = problem(NON_CONVEX)
    assert float(p.lower.bounds.mu) < 0
    for method in BOUNDED.values():
        assert method(p.lower, p.upper, p.solution).error.isinf().all()
