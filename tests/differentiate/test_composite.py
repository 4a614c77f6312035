"""Hypergradients of f + h: against finite differences and dense systems."""

from __future__ import annotations

import itertools
import math
from functools import cache

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    ForwardMode,
    Hypergradient,
    Implicit,
    Neumann,
    Unrolled,
    Upper,
    ValueFunction,
    finite_differences,
)
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable
from bilevel.solve import Solution, Tolerance, minimise
from bilevel.solve.solvers import FISTA
from contracts.composites import KINDS, SMOOTH, as_solution, dense, exact, lower_of, make
from contracts.zoo import Case, dense_hessian

LOSS = bl.losses.SquaredError()
FIRST = 2
PROBLEMS = [(kind, SMOOTH[k % len(SMOOTH)]) for k, kind in enumerate(KINDS)]


@cache
def problem(kind: str, regulariser: str) -> tuple[Case, Solution, bl.Theta]:
    """No pixel near a kink; differences of the first entries of every parameter."""
    for seed in range(100):
        case = make(kind, regulariser, seed)
        lower = lower_of(case)
        if float(lower.bounds.lipschitz / lower.bounds.mu) > 20:
            continue
        solution = exact(lower)
        near = torch.full((1,), 2e-4, dtype=torch.float64)
        free, _ = lower.proximable.pieces(solution.x)
        some = 0.1 < float(free.double().mean()) < 0.95
        if some and float(lower.smoothness(solution.x, near).kinks) == 0:
            break
    else:
        raise AssertionError("every draw is ill-conditioned or near a kink")
    theta = learnable(case.energy)

    def loss(some: bl.Theta) -> float:
        moved = {k: v.clone() for k, v in theta.items()}
        for key, value in some.items():
            moved[key].view(-1)[:FIRST] = value
        x = exact(lower_of(case, moved), solution.x).x
        return float(LOSS.value(x, case.target))

    first = {k: v.flatten()[:FIRST].clone() for k, v in theta.items()}
    coarse, fine = (finite_differences(loss, first, step) for step in (2e-5, 1e-5))
    return case, solution, {k: (4 * fine[k] - coarse[k]) / 3 for k in fine}


def relative_error(case: Case, grad: bl.Theta, differences: bl.Theta) -> float:
    first = {k: v.flatten()[:FIRST] for k, v in grad.items()}
    return algebra.norm(algebra.add(first, differences, -1.0)) / algebra.norm(grad)


EXACT: dict[str, Hypergradient] = {
    "implicit": Implicit(),
    "minres": Implicit("minres"),
    "neumann": Neumann(2000),
    "unrolled": Unrolled(200, FISTA(), checkpoint=15),
    "equilibrium": EquilibriumPropagation(1e-5),
}


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize(("kind", "regulariser"), PROBLEMS)
def test_exact_methods_agree_with_finite_differences(
    kind: str, regulariser: str, method: str
) -> None:
    case, solution, differences = problem(kind, regulariser)
    lower = lower_of(case)
    found = EXACT[method](lower, Upper(LOSS, case.target), solution, rtol=1e-11)
    assert relative_error(case, found.grad, differences) <= 1e-6
    if method != "unrolled":
        assert found.kinks.tolist() == [0]
        assert math.isfinite(found.bound)


@pytest.mark.parametrize(("kind", "regulariser"), PROBLEMS[:2])
def test_forward_mode_through_fista_is_reverse_mode(kind: str, regulariser: str) -> None:
    case, warm, differences = problem(kind, regulariser)
    lower, upper = lower_of(case), Upper(LOSS, case.target)
    cold = minimise(lower, FISTA(), tol=Tolerance(rms=1e-9), max_steps=0)
    ahead = ForwardMode(15, FISTA())(lower, upper, cold, estimate=True)
    back = Unrolled(15, FISTA())(lower, upper, cold)
    assert math.isfinite(ahead.estimate)
    for key, value in back.grad.items():
        torch.testing.assert_close(ahead.grad[key], value, rtol=1e-9, atol=1e-15)
    found = ForwardMode(100, FISTA())(lower, upper, warm)
    assert relative_error(case, found.grad, differences) <= 1e-6


@pytest.mark.parametrize(("kind", "regulariser"), PROBLEMS)
def test_differences_have_their_orders(kind: str, regulariser: str) -> None:
    case, solution, differences = problem(kind, regulariser)
    lower, upper = lower_of(case), Upper(LOSS, case.target)

    def errors(methods: list[Hypergradient]) -> list[float]:
        grads = [m(lower, upper, solution, rtol=1e-9).grad for m in methods]
        return [relative_error(case, grad, differences) for grad in grads]

    pulls = errors([EquilibriumPropagation(s) for s in (1e-4, 1e-5)])
    assert pulls[1] <= pulls[0] / 50 + 1e-6
    for coarse, fine in itertools.pairwise(errors([ValueFunction(p) for p in (1e4, 1e5, 1e6)])):
        assert coarse / 15 - 1e-6 <= fine <= coarse / 6 + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_against_dense_ones(kind: str) -> None:
    """Of the value, by autograd, in the free pixels alone."""
    for regulariser in ("tv charbonnier", "foe log-cosh"):
        case = make(kind, regulariser, 7)
        lower, upper = lower_of(case), Upper(LOSS, case.target)
        x = exact(lower).x
        free = lower.proximable.pieces(x)[0].flatten()
        matrix = dense(lower.hessian(x), x)
        values = torch.linalg.eigvalsh(matrix)
        slack = 1e-9 * float(lower.bounds.lipschitz)
        assert float(values[0]) >= float(lower.bounds.mu) - slack
        assert float(values[-1]) <= float(lower.bounds.lipschitz) + slack
        smooth = lower.smooth.energy  # type: ignore[attr-defined]
        inner = dense_hessian(smooth, x, case.y)[free][:, free]
        torch.testing.assert_close(matrix[free][:, free], inner, rtol=1e-8, atol=1e-8)
        found = Implicit()(lower, upper, as_solution(lower, x), rtol=1e-13)
        assert found.linear is not None
        q = torch.linalg.solve(inner, upper.grad(x).flatten()[free])
        torch.testing.assert_close(found.linear.x.flatten()[free], q, rtol=1e-6, atol=1e-10)

        direction = torch.zeros_like(x).flatten()
        direction[free] = q
        leaf = {k: v.requires_grad_() for k, v in learnable(case.energy).items()}
        point = x.clone().requires_grad_()
        bound = algebra.bind(case.energy, leaf)
        parts = [t for t in bound.regulariser.parts if not isinstance(t, bl.regularisers.Box)]
        value = bound.fidelity.forward(point, case.y) + sum(t.forward(point) for t in parts)
        (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True)
        expected = algebra.derivative((slope.flatten() * direction).sum(), leaf)
        for name, product in lower.cross_vjp(x, found.linear.x).items():
            torch.testing.assert_close(product, expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_differentiates_by_data_and_parameters(kind: str) -> None:
    case, _, _ = problem(*next(p for p in PROBLEMS if p[0] == kind))
    theta = learnable(case.energy)
    name = next(k for k, v in theta.items() if not v.ndim and "fidelity" not in k)
    tol = Tolerance(rms=1e-11)

    def layer(y: Tensor, weight: Tensor) -> Tensor:
        x = bl.argmin(case.energy, y, tol=tol, theta={name: weight}, adjoint_rtol=1e-11)
        return (x * case.target).sum()

    y, weight = case.y.clone().requires_grad_(), theta[name].requires_grad_()
    found = torch.autograd.grad(layer(y, weight), (y, weight))
    direction = torch.randn_like(y)
    with torch.no_grad():
        ahead, behind = (layer(y + s * direction, weight) for s in (1e-6, -1e-6))
        above, below = (layer(y, weight + s) for s in (1e-6, -1e-6))
    along = float((found[0] * direction).sum())
    assert along == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-5)
    assert float(found[1]) == pytest.approx(float(above - below) / 2e-6, rel=1e-5)


def test_bounds_that_float32_rounds_are_the_same_in_float64() -> None:
    energy = bl.Variational(
        bl.fidelities.SquaredL2(),
        bl.regularisers.Tikhonov(0.5) + bl.regularisers.Box(0.1, 0.7),
    )
    lower = energy.at(torch.tensor([-1.0, 0.3, 0.9, 2.0]).reshape(1, 1, 2, 2))
    x = torch.tensor([0.1, 0.2, 0.6, 0.7]).reshape(1, 1, 2, 2)
    assert float(lower.double().subgradient(x.double()).norm()) < 1e-6
    assert minimise(lower, FISTA(), tol=Tolerance(rms=1e-7)).converged.all()


def test_sparsity_in_a_box_is_learned() -> None:
    images = bl.data.shepp_logan(16).double().repeat(2, 1, 1, 1)
    noise = bl.data.GaussianNoise(0.2)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=1)
    parts = bl.regularisers.TotalVariation(0.05, 0.05, potential="huber")
    parts = parts + bl.regularisers.Box(0.0, 1.0) + bl.regularisers.Sparsity(0.005)
    energy = bl.Variational(bl.fidelities.SquaredL2(), parts).double()
    problem = bl.BilevelProblem(energy, LOSS, pairs)
    assert isinstance(problem.level.solver, FISTA)
    fit = bl.learn(problem, budget=bl.Budget(steps=15))
    first, last = fit.history[0], fit.history[-1]
    assert last.value < 0.85 * first.value
    sparsity = "regulariser.terms.2.log_weight"
    assert float(fit.theta[sparsity]) > math.log(0.005) + 0.5
    at = problem.value_and_grad(fit.theta, tol=1e-7)
    assert at.proved
    assert at.uncertified == at.unsolved == 0
    loss = lambda t: problem.value({**fit.theta, **t}, tol=1e-12)  # noqa: E731
    differences = finite_differences(loss, {sparsity: fit.theta[sparsity]}, 1e-5)
    assert float(at.grad[sparsity]) == pytest.approx(float(differences[sparsity]), rel=1e-3)


def test_the_ledger_counts_as_for_smooth_energies() -> None:
    y = torch.rand(2, 1, 4, 5)
    ridge = bl.regularisers.Tikhonov(0.5)
    counted = []
    for regulariser in (ridge, ridge + bl.regularisers.Box(0.1, 0.7)):
        cost = bl.Cost()
        lower = bl.Variational(bl.fidelities.SquaredL2(), regulariser).at(y, cost=cost)
        lower.cross_vjp(y, y)
        lower.theta_grad(y, torch.ones(2))
        counted.append((cost.gradient_evaluations, cost.hvps, cost.operator_applications))
    assert counted[0] == counted[1] == (4, 0, 8)


def test_curvature_is_refused() -> None:
    box = bl.regularisers.Box(0.0, 0.2)
    lower = bl.Variational(bl.fidelities.SquaredL2(), box).at(torch.rand(1, 1, 3, 3))
    solution = minimise(lower, bl.solvers.FISTA(), tol=Tolerance(rms=1e-3))
    with pytest.raises(InputError, match="smooth"):
        bl.solve.curvature(lower, solution)
