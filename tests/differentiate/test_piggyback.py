"""Hypergradients of saddle problems against differences, dense systems and each other."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import (
    FixedPoint,
    ForwardMode,
    Hypergradient,
    Implicit,
    Piggyback,
    Unrolled,
    Upper,
    solve_saddle_adjoint,
)
from bilevel.differentiate.saddle_adjoint import dual_of
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable
from bilevel.model import CompositeObjective
from bilevel.model.group_norm import GroupNorm
from bilevel.model.objective import DATA
from bilevel.solve import Solution, Tolerance, minimise
from bilevel.solve.solvers import FISTA, LBFGS, PDHG
from contracts.saddles import ENERGIES, LOSS, Saddle, accurate, saddle
from contracts.zoo import make


def relative(found: bl.Theta, truth: bl.Theta) -> float:
    return algebra.norm(algebra.add(found, truth, -1.0)) / algebra.norm(truth)


@pytest.mark.parametrize("name", ENERGIES)
def test_against_finite_differences(name: str) -> None:
    p = saddle(name)
    random = torch.Generator().manual_seed(7)
    direction = {
        k: torch.randn(v.shape, dtype=v.dtype, generator=random)
        for k, v in learnable(p.energy).items()
    }
    found = p.by(Piggyback(), rtol=1e-11)
    assert found.linear is not None
    assert found.linear.converged.all()
    assert undecided(p, p.solution) == [0, 0]
    assert found.kinks.isinf().all()
    assert found.error.isinf().all()
    assert abs(algebra.inner(found.grad, direction) - p.slope(direction)) <= (
        1e-7 * algebra.norm(found.grad)
    )


def undecided(p: Saddle, solution: Solution) -> list[float]:
    x, dual = solution.x, dual_of(solution, "this test")
    distance = solution.certificate.rms * x[0].numel() ** 0.5
    slope = p.upper.grad(x)
    found = solve_saddle_adjoint(p.lower, x, dual, slope, rtol=0.1, distance=distance)
    return found.linearised.doubtful.tolist()


def dense(apply: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The matrix of a linear map of images like ``like`` (1, c, h, w)."""
    n = like.numel()
    units = torch.eye(n, dtype=like.dtype).reshape(n, *like.shape[1:])
    return apply(units).reshape(n, -1).T


@pytest.mark.parametrize("name", ["isotropic", "isotropic map", "anisotropic", "box", "two"])
def test_the_adjoint_against_a_dense_one(name: str) -> None:
    """H X + AᵀY = ∇ℓ, Y = P(Y + σ A X), P the Jacobian of the dual prox by autograd, any σ."""
    p, row = saddle(name), torch.tensor([0])
    lower, x = p.lower.rows(row), p.solution.x[row]
    dual = tuple(part[row] for part in dual_of(p.solution, "this test"))
    slope = LOSS.grad(x, p.target[row])
    found = solve_saddle_adjoint(lower, x, dual, slope, rtol=1e-12)
    smooth = lower.smooth
    hessian = dense(torch.func.vmap(lambda u: smooth.hessian(x)(u[None])[0]), x)
    sigma = torch.tensor([0.7], dtype=torch.float64)
    matrices, jacobians = [], []
    for term, part in zip(lower.terms, dual, strict=True):
        matrices.append(dense(term.forward, x))
        image = term.forward(x)

        def prox(v: Tensor, term: GroupNorm = term, part: Tensor = part) -> Tensor:
            return term.ascend(v.view_as(part), torch.zeros_like(part), sigma).flatten()

        moved = (part + sigma * term.residual(image)).flatten()
        shift = torch.zeros_like(moved) if term.shift is None else sigma * term.shift.flatten()
        with torch.enable_grad():
            jacobians.append(torch.autograd.functional.jacobian(prox, moved + shift))
    a, jacobian = torch.cat(matrices), torch.block_diag(*jacobians)
    n, eye = x.numel(), torch.eye(len(a), dtype=torch.float64)
    free = ((x > lower.proximable.lower) & (x < lower.proximable.upper)).flatten().double().diag()
    upper = torch.cat((free @ hessian @ free + torch.eye(n) - free, free @ a.T), 1)
    under = torch.cat((-sigma * jacobian @ a @ free, eye - jacobian), 1)
    rhs = torch.cat((free @ slope.flatten(), torch.zeros(len(a))))
    solution = torch.linalg.lstsq(torch.cat((upper, under)), rhs[:, None], driver="gelsd").solution
    torch.testing.assert_close(found.linear.x.flatten(), solution[:n, 0], rtol=1e-7, atol=1e-9)


def two_pixels(weight: float) -> tuple[Saddle, float]:
    """x̂ = (w, 1 - w) for w < ½, then (½, ½)."""
    tv = bl.regularisers.ExactTotalVariation(weight)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv).double()
    tv.log_weight.data.fill_(math.log(weight))
    y = torch.tensor([[[[0.0, 1.0]]]], dtype=torch.float64)
    p = Saddle(energy, y, torch.zeros_like(y), accurate(energy, y))
    return p, float(p.by(Piggyback(), rtol=1e-12).grad["regulariser.log_weight"])


def test_two_pixels_by_hand() -> None:
    """dℓ/dlog w = w ⟨∇ℓ, (1, -1)⟩, and 0 where both pixels are one."""
    p, found = two_pixels(0.2)
    slope = LOSS.grad(p.solution.x, p.target).flatten()
    assert found == pytest.approx(0.2 * float(slope[0] - slope[1]), rel=1e-8)
    assert two_pixels(0.7)[1] == pytest.approx(0, abs=1e-10)


def test_undecided_features_are_reported() -> None:
    for weight, count in ((0.2, 0), (0.5, 1)):
        p, _ = two_pixels(weight)
        assert undecided(p, p.solution) == [count]
    p = saddle("isotropic")
    rough = minimise(p.lower, PDHG(), tol=Tolerance(rms=1e-2), keep_state=True)
    assert min(undecided(p, rough)) > 5


def test_pixels_at_the_edge_of_the_box_are_reported() -> None:
    """x̂ = y is held at 0.5 without any force."""
    total = bl.regularisers.ExactTotalVariation(0.2) + bl.regularisers.Box(0.0, 0.8)
    energy = bl.Variational(bl.fidelities.SquaredL2(), total).double()
    y = torch.tensor([[[[0.0, 1.0]]]], dtype=torch.float64)
    solution = accurate(energy, y)
    assert undecided(Saddle(energy, y, 0 * y, solution), solution) == [1]


@pytest.mark.parametrize("name", ["absolute", "two", "pixels", "isotropic"])
def test_the_derivative_by_the_data(name: str) -> None:
    """``pairing`` serves a differentiable layer; pixels held at their datum move with it."""
    p = saddle(name)
    x, dual, slope = p.solution.x, dual_of(p.solution, "this test"), p.upper.grad(p.solution.x)
    adjoint = solve_saddle_adjoint(p.lower, x, dual, slope, rtol=1e-12)
    leaf = p.y.clone().requires_grad_()
    moving = p.lower.taped({DATA: leaf})
    (found,) = torch.autograd.grad(adjoint.pairing(moving), leaf)
    random = torch.Generator().manual_seed(1)
    direction = torch.randn(p.y.shape, dtype=torch.float64, generator=random)
    ends = [accurate(p.energy, p.y + t * direction, p.solution).x for t in (1e-5, -1e-5)]
    losses = [float(LOSS.value(end, p.target).sum()) for end in ends]
    assert float((found * direction).sum()) == pytest.approx(
        (losses[0] - losses[1]) / 2e-5, rel=2e-6
    )


@pytest.mark.parametrize("name", ["isotropic", "two"])
def test_rows_are_independent_and_counted(name: str) -> None:
    p = saddle(name)
    lower = p.lower
    together = Piggyback()(lower, p.upper, p.solution, rtol=1e-10)
    assert together.linear is not None
    assert lower.smooth.cost.hvps >= together.linear.applications > 0
    alone: list[bl.Theta] = []
    for k in range(2):
        row = slice(k, k + 1)
        solution = accurate(p.energy, p.y[row])
        one = Piggyback()(p.energy.at(p.y[row]), Upper(LOSS, p.target[row]), solution, rtol=1e-10)
        alone.append(one.grad)
    mean = {k: (alone[0][k] + alone[1][k]) / 2 for k in together.grad}
    assert relative(together.grad, mean) <= 1e-7


def test_rows_that_leave_early_keep_their_dual() -> None:
    p = saddle("isotropic")
    y = p.y * torch.tensor([0.05, 1.0]).double()[:, None, None, None]
    tol = Tolerance(rms=1e-4)
    both = minimise(p.energy.at(y), PDHG(), tol=tol, keep_state=True)
    assert both.steps[0] != both.steps[1]
    for k in range(2):
        one = minimise(p.energy.at(y[k : k + 1]), PDHG(), tol=tol, keep_state=True)
        torch.testing.assert_close(
            dual_of(both, "this test")[0][k], dual_of(one, "this test")[0][0]
        )


@pytest.mark.parametrize("name", ["anisotropic", "isotropic", "absolute"])
def test_the_error_falls_with_the_tolerance(name: str) -> None:
    p = saddle(name)
    exact = p.by(Piggyback(), rtol=1e-11)
    for tol in (1e-3, 1e-4, 1e-5):
        lower = p.lower
        rough = minimise(lower, PDHG(), tol=Tolerance(rms=tol), keep_state=True)
        found = Piggyback()(lower, p.upper, rough, estimate=True)
        error = algebra.norm(algebra.add(found.grad, exact.grad, -1.0))
        assert error <= 200 * tol * algebra.norm(exact.grad)
        assert found.estimate == pytest.approx(error, rel=0.3, abs=1e-6)
        truth = LOSS.value(p.solution.x, p.target)
        assert ((found.value - truth).abs() <= found.interval + 1e-9).all()


def test_float32() -> None:
    p = saddle("isotropic")
    energy = copy.deepcopy(p.energy).float()
    lower, upper = energy.at(p.y.float()), Upper(LOSS, p.target.float())
    solution = minimise(lower, PDHG(), tol=Tolerance(rms=1e-4), keep_state=True)
    found = Piggyback()(lower, upper, solution, rtol=1e-4)
    exact = p.by(Piggyback(), rtol=1e-11)
    assert relative({k: v.double() for k, v in found.grad.items()}, exact.grad) <= 1e-2


def test_an_adjoint_without_solution_is_named() -> None:
    """The unseen pixel may lie anywhere between its neighbours: x̂ has no derivative."""
    mask = bl.operators.Mask(torch.tensor([[1.0, 0.0, 1.0]]))
    tv = bl.regularisers.ExactTotalVariation(0.5)
    energy = bl.Variational(bl.fidelities.L1(mask), tv).double()
    y = torch.tensor([[[[0.2, 0.0, 1.0]]]], dtype=torch.float64)
    lower, start = energy.at(y), torch.tensor([[[[0.2, 0.7, 1.0]]]], dtype=torch.float64)
    tol = Tolerance(gap=1e-9)
    solution = minimise(lower, PDHG(), start, tol=tol, keep_state=True)
    found = Piggyback(max_steps=50)(lower, Upper(LOSS, 0 * y), solution, rtol=1e-8)
    assert found.linear is not None
    assert not found.linear.converged.any()
    assert found.linear.residual >= 0.1 * LOSS.grad(solution.x, 0 * y)[0, 0, 0, 1]


UNROLLED: dict[str, Hypergradient] = {
    "accelerated": Unrolled(800, PDHG()),
    "constant steps, checkpoints": Unrolled(500, PDHG(1.45, 0.0), checkpoint=40),
    "forward": ForwardMode(200, PDHG(acceleration=0.0)),
}


@pytest.mark.parametrize("method", UNROLLED)
@pytest.mark.parametrize("name", ["anisotropic", "absolute"])
def test_differentiated_steps_converge_to_the_same(name: str, method: str) -> None:
    p = saddle(name)
    found = p.by(UNROLLED[method])
    assert relative(found.grad, p.by(Piggyback(), rtol=1e-11).grad) <= 1e-6
    assert (found.interval < 1e-2).all()


def test_tangents_are_the_tape_of_isotropic_steps() -> None:
    """Features without any difference, in the last corner, must not spoil the derivative."""
    p = saddle("isotropic")
    tape, tangents = p.by(Unrolled(50, PDHG())), p.by(ForwardMode(50, PDHG()))
    assert relative(tape.grad, tangents.grad) <= 1e-10


@pytest.mark.parametrize("linear", ["gmres", "bicgstab"])
@pytest.mark.parametrize("name", ["isotropic", "anisotropic map", "box", "two"])
def test_the_adjoint_of_one_step_is_the_same(name: str, linear: str) -> None:
    p = saddle(name)
    found = p.by(FixedPoint(linear), rtol=1e-9)
    assert found.linear is not None
    assert found.linear.converged.all()
    assert relative(found.grad, p.by(Piggyback(), rtol=1e-11).grad) <= 1e-6


def test_the_adjoint_of_a_gradient_step() -> None:
    case = make("circular", "tv charbonnier", 4, torch.float64, batch=3)
    lower, upper = case.energy.at(case.y), Upper(LOSS, case.target)
    solution = minimise(lower, LBFGS(), tol=Tolerance(rms=1e-8), keep_state=True)
    found = FixedPoint()(lower, upper, solution, rtol=1e-10, estimate=True)
    exact = Implicit()(lower, upper, solution, rtol=1e-11)
    assert relative(found.grad, exact.grad) <= 1e-7
    assert found.estimate <= 1e-4 * algebra.norm(exact.grad)


def test_the_adjoint_of_a_proximal_step() -> None:
    r = bl.regularisers.TotalVariation(0.1, 0.1) + bl.regularisers.Box(0.3, 0.7)
    energy = bl.Variational(bl.fidelities.SquaredL2(), r).double()
    random = torch.Generator().manual_seed(3)
    y, target = torch.rand(2, 2, 1, 5, 6, dtype=torch.float64, generator=random)

    def solved(shift: float) -> tuple[CompositeObjective, bl.Solution]:
        theta = learnable(energy)
        theta["regulariser.terms.0.log_weight"] += shift
        lower = energy.at(y, theta)
        assert isinstance(lower, CompositeObjective)
        return lower, minimise(lower, FISTA(), tol=Tolerance(rms=1e-11), keep_state=True)

    ends = [float(LOSS.value(solved(t)[1].x, target).mean()) for t in (1e-4, -1e-4)]
    lower, solution = solved(0.0)
    found = FixedPoint()(lower, Upper(LOSS, target), solution, rtol=1e-10)
    truth = (ends[0] - ends[1]) / 2e-4
    assert float(found.grad["regulariser.terms.0.log_weight"]) == pytest.approx(truth, rel=1e-6)


def test_wrong_use_is_told() -> None:
    p = saddle("isotropic")
    bare = minimise(p.lower, PDHG(), tol=Tolerance(rms=1e-2))
    for method in (Piggyback(), FixedPoint()):
        with pytest.raises(InputError, match="keep_state=True"):
            method(p.lower, p.upper, bare)
    case = make("identity", "tv huber", 0, torch.float64)
    smooth = case.energy.at(case.y)
    solution = minimise(smooth, LBFGS(), tol=Tolerance(rms=1e-2), keep_state=True)
    with pytest.raises(InputError, match="Implicit"):
        Piggyback()(smooth, Upper(LOSS, case.target), solution)
    with pytest.raises(InputError, match="linear solver"):
        FixedPoint("qr")


def test_learning_an_exact_total_variation() -> None:
    """The weight that ``learn`` finds is the best of a dense search."""
    random = torch.Generator().manual_seed(0)
    target = torch.zeros(2, 1, 6, 6, dtype=torch.float64)
    target[0, :, 2:5, 2:] = 0.8
    target[1, :, :, :3] = 0.5
    y = target + 0.15 * torch.randn(target.shape, dtype=torch.float64, generator=random)
    tv = bl.regularisers.ExactTotalVariation(0.05)
    problem = bl.BilevelProblem(
        bl.Variational(bl.fidelities.SquaredL2(), tv).double(),
        LOSS,
        bl.data.Pairs(y, target, ("a", "b")),
        solver=PDHG(),
        hypergradient=Piggyback(),
    )
    fit = bl.learn(problem, bl.algorithms.LBFGS(), budget=bl.Budget(steps=12))
    found = problem.value(fit.theta, tol=1e-4)
    name = "regulariser.log_weight"
    logs = torch.linspace(math.log(0.02), math.log(0.5), 25, dtype=torch.float64)
    values = [problem.value({name: log}, tol=1e-3) for log in logs]
    best = int(torch.tensor(values).argmin())
    assert found <= min(values) + 1e-4
    assert abs(float(fit.theta[name] - logs[best])) <= 0.15
