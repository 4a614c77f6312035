"""What hypergradients of f + h claim about their errors is never violated."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    Hypergradient,
    Implicit,
    JacobianFree,
    Neumann,
    Upper,
    ValueFunction,
)
from bilevel.ground import theta as algebra
from bilevel.ground.theta import learnable
from bilevel.model import CompositeObjective
from bilevel.solve import Tolerance, certify, minimise
from bilevel.solve.solvers import FISTA
from contracts.composites import KINDS, SMOOTH, as_solution, exact, lower_of, make
from contracts.zoo import Case

LOSS = bl.losses.SquaredError()

BOUNDED: dict[str, Hypergradient] = {
    "implicit": Implicit(),
    "neumann": Neumann(5),
    "one step": JacobianFree(),
    "equilibrium": EquilibriumPropagation(1e-3, max_steps=30),
    "equilibrium, strong": EquilibriumPropagation(0.05, max_steps=5),
    "value function, weak": ValueFunction(30, max_steps=5),
}


def check_bounds(case: Case, lower: CompositeObjective, accuracies: tuple[float, ...]) -> int:
    """Against the exact solution of ``case``; how often no pixel was undecided."""
    best, decided = lower_of(case), 0
    at = exact(best)
    truth = Implicit()(best, Upper(LOSS, case.target), at, rtol=1e-13)
    for rms in accuracies:
        x = minimise(lower, FISTA(), tol=Tolerance(rms=rms), check_every=1).require().x
        upper, solution = Upper(LOSS, case.target.to(x)), as_solution(lower, x)
        for name, method in BOUNDED.items():
            found = method(lower, upper, solution)
            assert math.isfinite(found.bound), name
            grad = {k: v.double() for k, v in found.grad.items()}
            error = algebra.norm(algebra.add(grad, truth.grad, -1.0))
            assert error <= found.bound * (1 + 1e-9) + 1e-11, name
            off = (found.corrected - truth.value).abs()
            assert bool((off <= found.interval * (1 + 1e-9) + 1e-13).all()), name
        if not lower.smoothness(x, certify(lower, x).rms * x.numel() ** 0.5).kinks.any():
            assert torch.equal(best.proximable.pieces(at.x)[0], lower.proximable.pieces(x)[0])
            decided += 1
    return decided


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold(kind: str) -> None:
    """Of gradients and values, on 100 random problems, solved sloppily or well."""
    decided = 0
    for regulariser in SMOOTH:
        for seed in range(10, 14):
            case = make(kind, regulariser, seed)
            accuracy = (0.1, 1e-2, 1e-4, 1e-6)[seed % 4]
            decided += check_bounds(case, lower_of(case), (accuracy,))
    assert 2 <= decided <= 18, "both happen: every pixel is decided, and some pixel is not"


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_in_float32(kind: str) -> None:
    case = make(kind, "tv charbonnier", 40)
    energy, y = copy.deepcopy(case.energy).float(), case.y.float()
    double = copy.deepcopy(energy).double()
    lower = energy.at(y)
    assert isinstance(lower, CompositeObjective)
    again = Case(double, y.double(), case.target.float().double())
    check_bounds(again, lower, (1e-2, 1e-4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_variation_covers_every_point_around_the_minimiser(kind: str) -> None:
    """Also those that no solver returns, with pixels on the wrong pieces."""
    wrong = 0
    for seed in range(12):
        case = make(kind, "tv charbonnier", 60 + seed)
        lower = lower_of(case)
        at = exact(lower)
        distance = lower.proximable.distance
        centre = distance.centre if distance else torch.tensor(0.2)
        x = at.x + 10 ** (-1 - seed % 4) * torch.randn_like(at.x)
        kinks = lower.project(centre.to(x).expand_as(x))
        near = (x - kinks).abs() < 0.05
        x = lower.project(torch.where(near & (torch.rand_like(x) < 0.5), kinks, x))
        q, radius = torch.randn_like(x), (x - at.x).flatten(1).norm(dim=1)
        claimed = lower.variation(x, q, radius)
        turn = lower.hessian(at.x)(q) - lower.hessian(x)(q)
        assert float(turn.norm()) <= float(claimed.hessian) + 1e-9
        shift = algebra.add(lower.cross_vjp(at.x, q), lower.cross_vjp(x, q), -1.0)
        assert algebra.norm(shift) <= float(claimed.cross) + 1e-9
        size = algebra.norm(lower.cross_vjp(at.x, q))
        assert size <= float(claimed.cross_norm) * float(q.norm()) + 1e-9
        wrong += bool((lower.proximable.pieces(x)[0] != lower.proximable.pieces(at.x)[0]).any())
    assert wrong >= 3


@pytest.mark.parametrize(
    ("kind", "name"),
    [("box", "fidelity.log_weight"), ("absolute", "regulariser.terms.2.log_weight")],
)
def test_a_pixel_on_a_kink_is_reported_and_the_bound_allows_for_the_jump(
    kind: str, name: str
) -> None:
    """Where a pixel is just let go, the gradient lies between the one-sided derivatives."""
    case = make(kind, "tv charbonnier", 1 if kind == "box" else 4, blurred=False)
    theta = learnable(case.energy)
    start = exact(lower_of(case)).x

    def moved(shift: float) -> CompositeObjective:
        return lower_of(case, {**theta, name: theta[name] + shift})

    def firmness(shift: float) -> Tensor:
        lower = moved(shift)
        x = exact(lower, start).x
        low, high = lower.proximable.subdifferential(x)
        force = lower.smooth.grad(x)
        return torch.where(low < high, torch.minimum(high + force, -low - force), -1.0).flatten()

    before, after = firmness(-0.5) > 0, firmness(0.5) > 0
    pixel = int(torch.nonzero(before != after)[0])
    shift = brentq(lambda s: 1.0 if firmness(s)[pixel] > 0 else -1.0, -0.5, 0.5, xtol=1e-12)
    lower, upper = moved(shift), Upper(LOSS, case.target)
    solution = minimise(lower, FISTA(), start, tol=Tolerance(rms=1e-8)).require()
    found = Implicit()(lower, upper, solution, rtol=1e-12)
    assert found.kinks.item() >= 1

    def loss(s: float) -> float:
        return float(upper.value(exact(moved(s), start).x))

    step = 1e-5
    sides = [(loss(shift) - loss(shift - step)) / step, (loss(shift + step) - loss(shift)) / step]
    slack = 1e-3 * max(map(abs, sides))
    assert abs(sides[0] - sides[1]) > 3 * slack, "there is a jump"
    assert min(sides) - slack <= float(found.grad[name]) <= max(sides) + slack
    assert max(abs(found.grad[name].item() - s) for s in sides) <= found.bound + slack


def test_a_perfect_reconstruction_has_no_gradient() -> None:
    """And does not disturb the others, though its chord has no length and 0 is not in the box."""
    case = make("box", "tv charbonnier", 5, blurred=False, batch=2)
    lower = case.energy.at(case.y)
    solution = minimise(lower, FISTA(), tol=Tolerance(rms=1e-9))
    mixed = Upper(LOSS, torch.stack((solution.x[0], case.target[1])))
    row = lower.rows(torch.tensor([1]))
    lone = minimise(row, FISTA(), tol=Tolerance(rms=1e-9))
    for name, method in BOUNDED.items():
        both = method(lower, mixed, solution, rtol=1e-6)
        single = method(row, Upper(LOSS, case.target[1:]), lone, rtol=1e-6)
        assert math.isfinite(both.bound), name
        for key, value in single.grad.items():
            torch.testing.assert_close(2 * both.grad[key], value, rtol=1e-3, atol=1e-9)


def test_rows_are_independent() -> None:
    case = make("box and absolute", "tv charbonnier", 5, blurred=False, batch=3)
    for name, method in BOUNDED.items():

        def of(index: Tensor, method: Hypergradient = method) -> bl.UpperGradient:
            lower = case.energy.at(case.y[index])
            solution = minimise(lower, FISTA(), tol=Tolerance(rms=1e-4))
            return method(lower, Upper(LOSS, case.target[index]), solution, rtol=1e-8)

        together, alone = of(torch.arange(3)), [of(torch.tensor([k])) for k in range(3)]
        for key, value in together.grad.items():
            mean = torch.stack([r.grad[key] for r in alone]).mean(0)
            torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-9, msg=name)
        errors = torch.cat([r.error for r in alone])
        torch.testing.assert_close(together.error, errors, rtol=1e-3, atol=0)
