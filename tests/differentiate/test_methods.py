"""Every hypergradient method: against finite differences, against its theory, and its bounds."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

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
from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.theta import bind, learnable
from bilevel.linear import LinearStatus
from bilevel.model import EnergyObjective
from bilevel.model.bounds import Bounds
from bilevel.solve import Solution, Tolerance, certify, minimise
from bilevel.solve.solvers import LBFGS, GradientDescent, Nesterov
from contracts.zoo import OPERATORS, REGULARISERS, Case, dense_hessian, make, reference

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
    def lower(self) -> EnergyObjective:
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
    cold = Implicit("minres")(p.lower, p.upper, p.solution, rtol=0.05)
    warm = Shine(steps=200, linear="minres")(p.lower, p.upper, p.solution, rtol=0.05)
    assert cold.linear is not None
    assert warm.linear is not None
    assert int(warm.linear.steps) <= int(cold.linear.steps)


def test_nothing_is_proved_where_no_curvature_is() -> None:
    p = problem(NON_CONVEX)
    assert float(p.lower.bounds.mu) < 0
    for method in BOUNDED.values():
        assert method(p.lower, p.upper, p.solution).error.isinf().all()


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


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_bounds_hold(operator: str, regulariser: str) -> None:
    """Of gradients and of values, on 117 random problems, at sloppy solutions."""
    case = make(operator, regulariser, 300, torch.float64)
    lower, upper = case.energy.at(case.y), Upper(LOSS, case.target)
    accurate = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-7), max_steps=2000)
    exact = reference(case.energy, accurate.x, case.y)
    at = replace(accurate, x=exact, certificate=certify(lower, exact))
    truth = Implicit()(lower, upper, at, rtol=1e-13)
    size = float(upper.grad(exact).norm())
    rms = 3e-2 if len(operator) % 2 else 1e-3
    solution = minimise(lower, LBFGS(), tol=Tolerance(rms=rms), keep_state=True)
    for name, method in BOUNDED.items():
        found = method(lower, upper, solution)
        assert math.isfinite(found.bound), name
        error = algebra.norm(algebra.add(found.grad, truth.grad, -1.0))
        assert error <= found.bound * (1 + 1e-9) + 1e-12 * max(1.0, size), name
        off = (found.corrected - truth.value).abs()
        assert bool((off <= found.interval * (1 + 1e-9) + 1e-14).all()), name
    found = Unrolled(3)(lower, upper, solution)
    assert bool(((found.value - truth.value).abs() <= found.interval + 1e-14).all())


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


EVERY: dict[str, Hypergradient] = {
    **BOUNDED,
    "implicit": Implicit(),
    "unrolled": Unrolled(10, Nesterov()),
    "forward": ForwardMode(4),
}


@pytest.mark.parametrize("method", EVERY)
def test_mean_over_rows(method: str) -> None:
    case = make("identity", "tv charbonnier", 2, torch.float64, batch=4)
    case = replace(case, y=case.y * torch.tensor([0.1, 1.0, 2.0, 3.0])[:, None, None, None])
    tol = Tolerance(rms=1e-3)

    def of(index: Tensor) -> bl.HyperGradient:
        lower = case.energy.at(case.y[index])
        upper = Upper(LOSS, case.target[index])
        solution = minimise(lower, LBFGS(), tol=tol, keep_state=True)
        return EVERY[method](lower, upper, solution, rtol=1e-8)

    together, alone = of(torch.arange(4)), [of(torch.tensor([k])) for k in range(4)]
    for name, value in together.grad.items():
        mean = torch.stack([r.grad[name] for r in alone]).mean(0)
        torch.testing.assert_close(value, mean, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(together.corrected, torch.cat([r.corrected for r in alone]))
    torch.testing.assert_close(
        together.error, torch.cat([r.error for r in alone]), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("method", EVERY)
def test_the_estimate_is_near_the_error(method: str) -> None:
    case = make("identity", "tv charbonnier", 2, torch.float64, batch=2)
    lower, upper = case.energy.at(case.y), Upper(LOSS, case.target)
    solution = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-3), keep_state=True)
    accurate = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-10))
    truth = Implicit()(lower, upper, accurate, rtol=1e-12)
    found = EVERY[method](lower, upper, solution, estimate=True, rtol=1e-2)
    error = algebra.norm(algebra.add(found.grad, truth.grad, -1.0))
    assert error / 3 <= found.estimate <= 3 * error


class Handmade(bl.Energy):
    """Only its value is written down: derivatives are autograd's, bounds the user's."""

    def __init__(self, lipschitz: float = 3.0) -> None:
        super().__init__()
        self.lipschitz = lipschitz
        self.log_weight = nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        bend = (1 + (x[..., 1:] - x[..., :-1]).square()).sqrt().flatten(1).sum(1)
        return 0.5 * (x - y).square().flatten(1).sum(1) + self.log_weight.exp() * bend

    def bounds(self, y: Tensor) -> Bounds:
        return Bounds.of(min(1.0, self.lipschitz / 2), self.lipschitz)


def test_energies_of_autograd_alone() -> None:
    """Every method, among them forward mode through the gradient that autograd makes."""
    energy, y = Handmade(), torch.rand(2, 1, 5, 6, dtype=torch.float64)
    lower, upper = energy.at(y), Upper(LOSS, torch.rand_like(y))
    solution = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-11), keep_state=True)
    exact = Implicit()(lower, upper, solution, rtol=1e-12)
    size = algebra.norm(exact.grad)
    precise = [
        Neumann(100),
        EquilibriumPropagation(1e-4),
        Unrolled(100),
        Unrolled(60, Nesterov(), checkpoint=7),
        ForwardMode(100),
        Shine(steps=50),
    ]
    for method in precise:
        found = method(lower, upper, solution, rtol=1e-9)
        assert algebra.norm(algebra.add(found.grad, exact.grad, -1.0)) <= 1e-6 * size, method
        assert found.error.isinf().all(), "no variation is declared, so nothing is proved"


def test_what_is_spent_is_counted() -> None:
    case = make("circular", "tv charbonnier", 4, torch.float64, batch=3)
    upper = Upper(LOSS, case.target)
    expected = {
        Neumann(7): (3, 21),
        JacobianFree(): (3, 3),
        Shine(): (3, 3),
        Unrolled(10, truncate=4): (3 * 11, 12),
        Unrolled(10, checkpoint=5): (3 * 21, 30),
        ForwardMode(10): (3 * (3 * 10 + 1), 3 * 3 * 10),
    }
    for method, (gradients, hvps) in expected.items():
        lower = case.energy.at(case.y)
        solution = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-4), keep_state=True)
        before = lower.cost + bl.Cost()
        method(lower, upper, solution, rtol=0.0)
        assert lower.cost.gradient_evaluations - before.gradient_evaluations == gradients, method
        assert lower.cost.hvps - before.hvps == hvps, method
    for method in (EquilibriumPropagation(), ValueFunction()):
        lower = case.energy.at(case.y)
        solution = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-4))
        before = lower.cost.gradient_evaluations
        method(lower, upper, solution)
        assert lower.cost.gradient_evaluations > before + 12
        assert lower.cost.hvps == 0, "first order"


def test_negative_curvature_is_told() -> None:
    foe = bl.regularisers.FieldsOfExperts(weight=5.0, smoothing=0.05, potential="student-t")
    energy = bl.Variational(bl.fidelities.SquaredL2(), foe).double()
    y = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    lower, upper = energy.at(y), Upper(LOSS, torch.zeros_like(y))
    tol = Tolerance(residual=1e9)
    solution = minimise(lower, GradientDescent(), y, tol=tol)
    told = Neumann(2000)(lower, upper, solution, rtol=1e-8)
    assert told.linear is not None
    assert told.linear.status.tolist() == [LinearStatus.NEGATIVE_CURVATURE]
    assert told.unsolved.all()
    assert algebra.norm(told.grad) == 0


@pytest.mark.parametrize("method", EVERY)
def test_a_perfect_reconstruction_has_no_gradient(method: str) -> None:
    case = make("identity", "tikhonov", 2, torch.float64, batch=2)
    lower = case.energy.at(case.y)
    solution = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-9), keep_state=True)
    target = torch.stack((solution.x[0], case.target[1]))
    mixed = EVERY[method](lower, Upper(LOSS, target), solution, rtol=1e-6)
    row = case.energy.at(case.y[1:])
    alone = minimise(row, LBFGS(), tol=Tolerance(rms=1e-9), keep_state=True)
    single = EVERY[method](row, Upper(LOSS, target[1:]), alone, rtol=1e-6)
    for name, value in single.grad.items():
        torch.testing.assert_close(2 * mixed.grad[name], value, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("method", EVERY)
def test_every_method_learns(method: str) -> None:
    case = make("identity", "tv charbonnier", 3, torch.float64, batch=3)
    pairs = bl.data.Pairs(case.y, case.target, ("a", "b", "c"))
    options = {"solver": LBFGS(), "hypergradient": EVERY[method]}
    problem = bl.BilevelProblem(case.energy, LOSS, pairs, **options)  # type: ignore[arg-type]
    first = problem.value_and_grad(problem.theta, tol=1e-4)
    again = problem.value_and_grad(problem.theta, tol=1e-4)
    assert first.unsolved == 0
    assert algebra.norm(first.grad) > 0
    assert again.value == pytest.approx(first.value, abs=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    p = problem("tikhonov")
    bare = replace(p.solution, state=None)
    with pytest.raises(InputError, match="keep_state=True"):
        Shine()(p.lower, p.upper, bare)
    with pytest.raises(InputError, match="cannot be differentiated"):
        Unrolled(10, LBFGS())
    with pytest.raises(InputError, match="cannot be differentiated"):
        ForwardMode(10, LBFGS())
    for build in (
        lambda: Neumann(0),
        lambda: Unrolled(0),
        lambda: Unrolled(5, truncate=0),
        lambda: Unrolled(5, checkpoint=0),
        lambda: ForwardMode(0),
        lambda: Shine(-1),
        lambda: Shine(linear="qr"),
        lambda: EquilibriumPropagation(0.0),
        lambda: ValueFunction(-1.0),
    ):
        with pytest.raises(InputError):
            build()


def test_steps_that_blow_up_are_told() -> None:
    y = torch.rand(1, 1, 5, 6, dtype=torch.float64)
    lower, upper = Handmade(lipschitz=0.1).at(y), Upper(LOSS, torch.rand_like(y))
    solution = minimise(lower, LBFGS(), tol=Tolerance(residual=1e-3))
    with pytest.raises(NotCertified, match="became infinite"):
        Unrolled(1200)(lower, upper, solution)
