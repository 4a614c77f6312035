"""Problems with known derivatives, every hypergradient, and what each must do.

Inherit ``HypergradientContract`` and name a method in ``EVERY``; with options that make it exact at
an exact solution, in ``PRECISE`` as well.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    ForwardMode,
    Hypergradient,
    Implicit,
    JacobianFree,
    Neumann,
    Shine,
    Unrolled,
    Upper,
    ValueFunction,
    finite_differences,
)
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.ground.theta import bind, learnable
from bilevel.model import SmoothObjective
from bilevel.solve import Solution, Tolerance, certify, minimise
from bilevel.solve.solvers import LBFGS, Nesterov
from contracts import unusual
from contracts.rows import rows
from contracts.zoo import Case, dense_hessian, make, reference

FIRST = 3
LOSS = bl.losses.SquaredError()
CONVEX = ("tikhonov", "tv huber", "tv charbonnier", "foe student-t")
NON_CONVEX = "non-convex foe student-t"
PROBLEMS = (*CONVEX, NON_CONVEX)


@dataclass(frozen=True)
class Problem:
    """A case with its exact solution, dense adjoint and finite differences at some entries."""

    case: Case
    solution: Solution
    adjoint: Tensor
    hessian: Tensor
    differences: bl.Theta

    @property
    def lower(self) -> SmoothObjective:
        return self.case.energy.at(self.case.y)

    @property
    def upper(self) -> Upper:
        return Upper(LOSS, self.case.target)

    def error(self, grad: bl.Theta) -> float:
        """Against finite differences, over the entries compared."""
        first = {k: v.flatten()[:FIRST] for k, v in grad.items()}
        return algebra.norm(algebra.add(first, self.differences, -1.0))

    def without_filters(self) -> Problem:
        """The same with few parameters."""
        energy = copy.deepcopy(self.case.energy)
        for name, parameter in energy.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and "filters" not in name)
        case = Case(energy, self.case.y, self.case.target)
        differences = {k: v for k, v in self.differences.items() if k in learnable(energy)}
        return replace(self, case=case, differences=differences)


def case_of(name: str) -> Case:
    """Well conditioned, so that all methods get there; no feature on a kink."""
    if name != NON_CONVEX:
        for seed in range(200):
            case = make("circular", name, seed, torch.float64)
            bounds = case.energy.at(case.y).bounds
            if float(bounds.lipschitz / bounds.mu) < 10:
                return case
        raise AssertionError("every draw is ill-conditioned")
    torch.manual_seed(1)
    filters = torch.zeros(2, 1, 2, 2)
    filters[0, 0, 0] = filters[1, 0, :, 0] = torch.tensor([1.0, -1.0])
    everything = ("filters", "weight", "smoothing")
    foe = bl.regularisers.FieldsOfExperts(
        filters, 0.05, 0.04, potential="student-t", learn=everything
    )
    energy = bl.Variational(bl.fidelities.SquaredL2(), foe).double()
    target = torch.rand(1, 1, 6, 8).double()
    return Case(energy, target + 0.1 * torch.randn(1, 1, 6, 8).double(), target)


@cache
def problem(name: str) -> Problem:
    case = case_of(name)
    lower = case.energy.at(case.y)
    tol = Tolerance(residual=1e-9)
    found = minimise(lower, LBFGS(), tol=tol, keep_state=True, max_steps=5000).require()
    x = reference(case.energy, found.x, case.y)
    solution = Solution(x, certify(lower, x), found.status, found.steps, tol, found.state)
    hessian = dense_hessian(case.energy, x, case.y)
    rhs = LOSS.grad(x, case.target).flatten()
    adjoint = torch.linalg.solve(hessian, rhs).reshape(x.shape)
    theta = learnable(case.energy)

    def loss(some: bl.Theta) -> float:
        moved = {k: v.clone() for k, v in theta.items()}
        for key, value in some.items():
            moved[key].view(-1)[:FIRST] = value
        energy = bind(case.energy, moved)
        return float(LOSS.value(reference(energy, x, case.y), case.target))

    first = {k: v.flatten()[:FIRST].clone() for k, v in theta.items()}
    coarse, fine = (finite_differences(loss, first, step) for step in (2e-4, 1e-4))
    differences = {k: (4 * fine[k] - coarse[k]) / 3 for k in fine}
    return Problem(case, solution, adjoint, hessian, differences)


def sensitivity(p: Problem) -> float:
    """‖B‖ at the solution, from the proved bound."""
    nothing = torch.zeros(1, dtype=torch.float64)
    return float(p.lower.variation(p.solution.x, p.adjoint, nothing).cross_norm)


def rate(p: Problem, step: float) -> float:
    """ρ = ‖I - s H‖ at the solution."""
    return float((1 - step * torch.linalg.eigvalsh(p.hessian)).abs().max())


def descent(p: Problem) -> float:
    bounds = p.lower.bounds
    mu = bounds.proved_mu()
    return float(torch.where(mu > 0, 2 / (bounds.lipschitz + mu), 1 / bounds.lipschitz))


BOUNDED: dict[str, Hypergradient] = {
    "neumann": Neumann(5),
    "one step": JacobianFree(),
    "equilibrium": EquilibriumPropagation(1e-3, max_steps=20),
    "equilibrium, strong": EquilibriumPropagation(0.05, max_steps=5),
    "value function": ValueFunction(1e4, max_steps=20),
    "value function, weak": ValueFunction(30, max_steps=5),
    "shine": Shine(),
    "shine refined": Shine(steps=3),
}


EVERY: dict[str, Hypergradient] = {
    **BOUNDED,
    "implicit": Implicit(),
    "unrolled": Unrolled(10, Nesterov()),
    "forward": ForwardMode(4),
}


PRECISE: dict[str, Hypergradient] = {
    "implicit": Implicit(),
    "neumann": Neumann(400),
    "equilibrium": EquilibriumPropagation(1e-4),
    "unrolled": Unrolled(200, Nesterov()),
    "forward": ForwardMode(200, Nesterov()),
    "shine refined": Shine(steps=60),
}


@dataclass(frozen=True)
class Truth:
    """Loss and hypergradient of the mean over rows, by finite differences of dense solves."""

    value: Tensor
    grad: bl.Theta


@cache
def case_in(situation: str, dtype: torch.dtype = torch.float64) -> Case:
    return unusual.make(situation, dtype=dtype, batch=2)


@cache
def truth(situation: str) -> Truth:
    """In float64, of numbers that both types hold."""
    case = case_in(situation)
    y, theta, near = case.y, learnable(case.energy), solved(case, 1e-4)[1].x

    def losses(some: bl.Theta) -> Tensor:
        moved = bind(case.energy, some)
        at = [reference(moved, near[k : k + 1], y[k : k + 1]) for k in range(len(y))]
        return Upper(LOSS, case.target).value(torch.cat(at).detach())

    coarse, fine = (
        finite_differences(lambda t: float(losses(t).mean()), theta, step) for step in (2e-3, 1e-3)
    )
    grad = {k: (4 * fine[k] - coarse[k]) / 3 for k in fine}
    return Truth(losses(theta), grad)


def solved(case: Case, rms: float, index: Tensor | None = None) -> tuple[SmoothObjective, Solution]:
    lower = case.energy.at(case.y if index is None else case.y[index])
    return lower, minimise(lower, LBFGS(), tol=Tolerance(rms=rms), keep_state=True, check_every=1)


class HypergradientContract:
    names: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize(("name", "situation"), self.product(metafunc.function.__name__))

    def product(self, test: str) -> list[object]:
        """Every pair where bounds are tried; else every method and every situation."""
        strength = 2 if "bound" in test else 1
        return rows(self.names, unusual.SMOOTH, strength=strength)

    def test_bounds_hold_against_finite_differences(self, name: str, situation: str) -> None:
        """Of gradients and of values, at solutions that are good and bad, in both types."""
        for dtype, rms in ((torch.float64, 1e-5), (torch.float64, 3e-2), (torch.float32, 1e-3)):
            case, known = case_in(situation, dtype), truth(situation)
            lower, solution = solved(case, rms)
            found = EVERY[name](lower, Upper(LOSS, case.target), solution)
            error = algebra.norm(algebra.add(_double(found.grad), known.grad, -1.0))
            assert error <= found.bound + 1e-8
            assert bool(((found.corrected - known.value).abs() <= found.interval + 1e-12).all())
            assert {v.dtype for v in found.grad.values()} == {dtype}
            assert found.error.dtype == torch.float64

    def test_exact_where_everything_is(self, name: str, situation: str) -> None:
        if name not in PRECISE:
            pytest.skip("is exact with no options")
        case, known = case_in(situation), truth(situation)
        lower, solution = solved(case, 1e-9)
        found = PRECISE[name](lower, Upper(LOSS, case.target), solution, rtol=1e-9)
        for key, value in known.grad.items():
            torch.testing.assert_close(found.grad[key], value, rtol=1e-4, atol=1e-7)

    def test_mean_over_rows(self, name: str, situation: str) -> None:
        case = case_in(situation)

        def of(index: Tensor) -> bl.UpperGradient:
            lower, solution = solved(case, 1e-3, index)
            return EVERY[name](lower, Upper(LOSS, case.target[index]), solution, rtol=1e-8)

        together, alone = of(torch.arange(2)), [of(torch.tensor([k])) for k in range(2)]
        for key, value in together.grad.items():
            mean = torch.stack([r.grad[key] for r in alone]).mean(0)
            torch.testing.assert_close(value, mean, rtol=1e-6, atol=1e-9)
        for field in ("value", "corrected", "error", "interval"):
            parts = torch.cat([getattr(r, field) for r in alone])
            torch.testing.assert_close(getattr(together, field), parts, rtol=1e-3, atol=1e-12)

    def test_a_start_changes_nothing_that_is_claimed(self, name: str, situation: str) -> None:
        case, known = case_in(situation), truth(situation)
        lower, solution = solved(case, 1e-4)
        upper = Upper(LOSS, case.target)
        first = EVERY[name](lower, upper, solution, rtol=1e-6)
        start = torch.zeros_like(solution.x) if first.linear is None else first.linear.x
        for point in (start, start + 0.1):
            kept = point.clone()
            again = EVERY[name](lower, upper, solution, rtol=1e-6, start=point)
            assert torch.equal(point, kept)
            error = algebra.norm(algebra.add(again.grad, known.grad, -1.0))
            assert error <= again.bound + 1e-8

    def test_says_whether_it_needs_the_state(self, name: str, situation: str) -> None:
        case = case_in(situation)
        lower, solution = solved(case, 1e-3)
        bare, upper = replace(solution, state=None), Upper(LOSS, case.target)
        if EVERY[name].needs_state:
            with pytest.raises(InputError, match="keep_state=True"):
                EVERY[name](lower, upper, bare)
        else:
            EVERY[name](lower, upper, bare)

    def test_the_estimate_is_near_the_error(self, name: str, situation: str) -> None:
        case, known = case_in(situation), truth(situation)
        lower, solution = solved(case, 1e-3)
        upper = Upper(LOSS, case.target)
        found = EVERY[name](lower, upper, solution, estimate=True, rtol=1e-2)
        error = algebra.norm(algebra.add(found.grad, known.grad, -1.0))
        assert error / 3 <= found.estimate + 1e-7
        assert found.estimate <= 3 * error + 1e-7

    def test_a_perfect_reconstruction_has_no_gradient(self, name: str, situation: str) -> None:
        """At one solution, so that it does not hang on the steps that led there."""
        case = case_in(situation)
        lower, solution = solved(case, 1e-9)
        perfect = lower.image(solution.x)

        def grad(imperfect: list[int]) -> bl.Theta:
            target = perfect.clone()
            target[imperfect] = case.target[imperfect]
            return EVERY[name](lower, Upper(LOSS, target), solution, rtol=1e-9).grad

        first, second, both, none = grad([0]), grad([1]), grad([0, 1]), grad([])
        for key, value in both.items():
            torch.testing.assert_close(first[key] + second[key], value, rtol=1e-3, atol=1e-8)
            torch.testing.assert_close(none[key], torch.zeros_like(value), rtol=0, atol=1e-8)

    def test_a_perfect_reconstruction_leaves_the_others_theirs(
        self, name: str, situation: str
    ) -> None:
        """Solved alone they have the same gradient, whichever steps that takes."""
        if isinstance(EVERY[name], Shine):
            pytest.skip("its curvature is that of the steps taken, which rounding decides")
        case = case_in(situation)
        lower, solution = solved(case, 1e-9)
        target = case.target.clone()
        target[0] = lower.image(solution.x)[0]
        mixed = EVERY[name](lower, Upper(LOSS, target), solution, rtol=1e-6)
        index = torch.tensor([1])
        others, alone = solved(case, 1e-9, index)
        rest = EVERY[name](others, Upper(LOSS, target[index]), alone, rtol=1e-6)
        for key, value in rest.grad.items():
            torch.testing.assert_close(2 * mixed.grad[key], value, rtol=1e-3, atol=1e-8)

    def test_learns(self, name: str, situation: str) -> None:
        """The first step of a problem goes downhill, and costs are told."""
        case = case_in(situation)
        pairs = bl.data.Pairs(case.y, case.target, ("a", "b"))
        options = {"solver": LBFGS(), "hypergradient": EVERY[name]}
        problem = bl.BilevelProblem(case.energy, LOSS, pairs, **options)  # type: ignore[arg-type]
        at = problem.value_and_grad(problem.theta, tol=1e-4)
        assert at.unsolved == 0
        size = algebra.norm(at.grad)
        assert size > 0
        moved = algebra.add(problem.theta, at.grad, -0.02 / size)
        assert problem.value(moved, tol=1e-6) < problem.value(problem.theta, tol=1e-6)
        assert problem.cost.gradient_evaluations > 0


def _double(theta: bl.Theta) -> bl.Theta:
    return {k: v.double() for k, v in theta.items()}
