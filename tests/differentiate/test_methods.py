"""Every hypergradient method against finite differences and against its theory."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from bilevel.differentiate import (
    EquilibriumPropagation,
    ForwardMode,
    Hypergradient,
    Implicit,
    JacobianFree,
    Neumann,
    Shine,
    Unrolled,
    ValueFunction,
)
from bilevel.ground import theta as algebra
from bilevel.solve import Tolerance, minimise
from bilevel.solve.solvers import GradientDescent, Nesterov
from contracts.hypergradients import (
    FIRST,
    NON_CONVEX,
    PROBLEMS,
    descent,
    problem,
    rate,
    sensitivity,
)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_implicit_method_agrees_with_finite_differences(name: str) -> None:
    p = problem(name)
    found = Implicit("minres")(p.lower, p.upper, p.solution, rtol=1e-12)
    assert p.error(found.grad) <= 1e-6 * algebra.norm(found.grad)


@pytest.mark.parametrize("terms", [1, 4, 16, 300])
@pytest.mark.parametrize("name", PROBLEMS)
def test_neumann_has_its_rate(name: str, terms: int) -> None:
    """‖q_K - q‖ <= ρ^K ‖q‖, with ρ = 1 - 1/κ for the Hessian's own κ at most."""
    p = problem(name)
    found = Neumann(terms)(p.lower, p.upper, p.solution, rtol=0.0)
    bounds = p.lower.bounds
    allowed = rate(p, float(1 / bounds.lipschitz)) ** terms * float(p.adjoint.norm())
    assert found.linear is not None
    assert float((found.linear.x - p.adjoint).norm()) <= allowed * (1 + 1e-9) + 1e-12
    rounding = 1e-6 * algebra.norm(found.grad)
    assert p.error(found.grad) <= sensitivity(p) * allowed + rounding
    if name != NON_CONVEX:
        theory = float((1 - bounds.mu / bounds.lipschitz) ** terms / bounds.mu)
        assert allowed <= theory * float(p.upper.grad(p.solution.x).norm())


@pytest.mark.parametrize("name", PROBLEMS)
def test_one_step_has_its_bias(name: str) -> None:
    p = problem(name)
    found = JacobianFree()(p.lower, p.upper, p.solution)
    assert found.linear is not None
    allowed = rate(p, descent(p)) * float(p.adjoint.norm())
    assert float((found.linear.x - p.adjoint).norm()) <= allowed * (1 + 1e-9)
    assert p.error(found.grad) <= sensitivity(p) * allowed
    product = sum(
        float((found.grad[k].flatten()[:FIRST] * v).sum()) for k, v in p.differences.items()
    )
    assert product > 0, "still a direction of ascent"


@pytest.mark.parametrize("name", PROBLEMS)
def test_equilibrium_propagation_is_second_order(name: str) -> None:
    p = problem(name)
    errors = []
    for strength in (1e-3, 1e-4, 1e-5):
        found = EquilibriumPropagation(strength)(p.lower, p.upper, p.solution, rtol=1e-9)
        assert found.linear is not None
        assert found.linear.converged.all()
        errors.append(p.error(found.grad) / algebra.norm(found.grad))
    assert errors[0] < 0.1
    assert errors[1] <= errors[0] / 50 + 1e-6
    assert errors[2] <= 1e-6


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_value_function_is_first_order(name: str) -> None:
    p = problem(name)
    errors = []
    for penalty in (1e3, 1e4, 1e5, 1e6):
        found = ValueFunction(penalty)(p.lower, p.upper, p.solution, rtol=1e-9)
        errors.append(p.error(found.grad) / algebra.norm(found.grad))
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / 15 - 1e-6 <= fine <= coarse / 6 + 1e-6
    assert errors[-1] <= 1e-3


STEPS: dict[str, Callable[[int], Hypergradient]] = {
    "unrolled": Unrolled,
    "checkpointed": lambda k: Unrolled(k, checkpoint=14),
    "nesterov": lambda k: Unrolled(k, Nesterov()),
    "truncated": lambda k: Unrolled(k + 50, truncate=k),
    "forward": lambda k: ForwardMode(k) if k > 100 else ForwardMode(k // 2, Nesterov()),
}


@pytest.mark.parametrize("method", STEPS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_differentiated_steps_agree_at_convergence(name: str, method: str) -> None:
    p = problem(name).without_filters()
    steps = 300 if name == NON_CONVEX else 100
    found = STEPS[method](steps)(p.lower, p.upper, p.solution)
    exact = Implicit("minres")(p.lower, p.upper, p.solution, rtol=1e-13)
    size = algebra.norm(exact.grad)
    assert algebra.norm(algebra.add(found.grad, exact.grad, -1.0)) <= 1e-6 * size
    assert p.error(found.grad) <= 2e-6 * size
    assert found.error.isinf().all(), "nothing is proved"


@pytest.mark.parametrize("name", PROBLEMS)
def test_truncation_and_start_have_their_bias(name: str) -> None:
    """From the solution, K steps leave ρ^K of the implicit derivative out."""
    p = problem(name)
    exact = Implicit("minres")(p.lower, p.upper, p.solution, rtol=1e-13)
    whole = rate(p, descent(p))
    for steps in (1, 5, 20):
        found = Unrolled(100, truncate=steps)(p.lower, p.upper, p.solution)
        off = algebra.norm(algebra.add(found.grad, exact.grad, -1.0))
        allowed = sensitivity(p) * whole**steps * float(p.adjoint.norm())
        assert off <= allowed * (1 + 1e-6) + 1e-9 * algebra.norm(exact.grad)


def test_a_whole_solve_is_unrolled_from_a_solution_of_no_steps() -> None:
    p = problem("tv charbonnier")
    cold = minimise(p.lower, Nesterov(), tol=Tolerance(rms=1e-9), max_steps=0)
    found = Unrolled(200, Nesterov())(p.lower, p.upper, cold)
    exact = Implicit()(p.lower, p.upper, p.solution, rtol=1e-13)
    size = algebra.norm(exact.grad)
    assert algebra.norm(algebra.add(found.grad, exact.grad, -1.0)) <= 1e-6 * size
    torch.testing.assert_close(found.value, exact.value)
    assert bool((found.interval < 1e-6).all()), "certified afresh at the last iterate"


@pytest.mark.parametrize("name", ["tikhonov", "tv huber"])
def test_forward_and_reverse_mode_are_the_same_derivative(name: str) -> None:
    p = problem(name)
    cold = minimise(p.lower, Nesterov(), tol=Tolerance(rms=1e-9), max_steps=0)
    for solver in (GradientDescent(), Nesterov()):
        ahead = ForwardMode(15, solver)(p.lower, p.upper, cold)
        back = Unrolled(15, solver, checkpoint=4)(p.lower, p.upper, cold)
        for key, value in back.grad.items():
            torch.testing.assert_close(ahead.grad[key], value, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", PROBLEMS)
def test_shine_refined_agrees_with_finite_differences(name: str) -> None:
    p = problem(name)
    rough = Shine()(p.lower, p.upper, p.solution)
    assert rough.linear is not None
    residual = p.hessian @ rough.linear.x.flatten() - p.upper.grad(p.solution.x).flatten()
    torch.testing.assert_close(rough.linear.residual, residual.norm()[None])
    fine = Shine(steps=200, linear="minres")(p.lower, p.upper, p.solution, rtol=1e-11)
    assert p.error(fine.grad) <= 1e-6 * algebra.norm(fine.grad)
    cold = Implicit("minres")(p.lower, p.upper, p.solution, rtol=1e-3)
    warm = Shine(steps=200, linear="minres")(p.lower, p.upper, p.solution, rtol=1e-3)
    assert cold.linear is not None
    assert warm.linear is not None
    assert int(warm.linear.steps) <= int(cold.linear.steps)
