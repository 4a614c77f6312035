"""Piecewise smooth energies: derivatives away from kinks, valid elements on them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import Implicit, Upper, count_kinks
from bilevel.ground.theta import bind, learnable
from bilevel.solve import Solution, Status, Tolerance, certify, minimise
from contracts.zoo import Case, make, reference

LOSS = bl.losses.SquaredError()
WEIGHT = "regulariser.terms.0.log_weight"
PIECEWISE = ("tv huber", "tv anisotropic huber", "foe huber", "ridge", "ridge weakly convex")
LEARNED = ("foe spline", "spline ridge of a noise level")
"""Of kinks in other places."""


def exact_at(case: Case, theta: bl.Theta, near: Tensor) -> Tensor:
    return reference(bind(case.energy, theta), near, case.y)


def as_solution(case: Case, theta: bl.Theta, x: Tensor) -> Solution:
    found = certify(bind(case.energy, theta).at(case.y), x)
    status = torch.full((len(x),), int(Status.CONVERGED))
    return Solution(x, found, status, torch.zeros_like(status), Tolerance(rms=1.0))


def first(case: Case) -> Tensor:
    return minimise(case.energy.at(case.y), bl.solvers.LBFGS(), tol=Tolerance(rms=1e-6)).x


def loss_along(case: Case, name: str, near: Tensor) -> Callable[[float], float]:
    """The loss when all entries of a parameter are shifted by the same number."""
    theta = learnable(case.energy)

    def loss(shift: float) -> float:
        moved = {**theta, name: theta[name] + shift}
        return float(LOSS.value(exact_at(case, moved, near), case.target))

    return loss


@pytest.mark.parametrize("regulariser", (*PIECEWISE, *LEARNED))
def test_central_differences_agree_where_no_feature_can_cross(regulariser: str) -> None:
    """To 1e-5 of the gradient; the ball of the piece test covers what θ ± 1e-5 can move."""
    checked = 0
    for seed in range(6):
        case = make("reflecting", regulariser, 300 + seed, torch.float64)
        x = exact_at(case, learnable(case.energy), first(case))
        if float(case.energy.at(case.y).smoothness(x, torch.full((1,), 1e-4).double()).kinks):
            continue
        lower, upper = case.energy.at(case.y), Upper(LOSS, case.target)
        found = Implicit()(lower, upper, as_solution(case, {}, x), rtol=1e-13)
        assert found.kinks.tolist() == [0]
        size = math.sqrt(sum(float(g.square().sum()) for g in found.grad.values()))
        for name, gradient in found.grad.items():
            loss = loss_along(case, name, x)
            central = (loss(1e-5) - loss(-1e-5)) / 2e-5
            assert abs(central - float(gradient.sum())) <= 1e-5 * size
        checked += 1
    assert checked >= 2, "some draws have no feature near a kink"


def crossing(case: Case, x: Tensor) -> tuple[float, Tensor] | None:
    """A shift of the log weight where some feature sits on a kink to 1e-11, and x̂ there."""
    theta = learnable(case.energy)

    def at(shift: float) -> Tensor:
        return exact_at(case, {**theta, WEIGHT: theta[WEIGHT] + shift}, x)

    def margins(point: Tensor) -> Tensor:
        part = case.energy.regulariser.parts[0]
        if isinstance(part, bl.regularisers.RidgeRegulariser):
            return part._features(point).detach().abs().flatten() - 1
        return (part.penalty.size(part.features(point)) - part.smoothing).detach().flatten()

    changed = torch.nonzero(margins(at(0.0)) * margins(at(-0.5)) < 0).flatten()
    if not len(changed):
        return None
    shift = brentq(lambda s: float(margins(at(s))[changed[0]]), -0.5, 0.0, xtol=1e-13)
    return shift, at(shift)


@pytest.mark.parametrize("regulariser", PIECEWISE)
def test_a_feature_on_a_kink_is_reported_with_a_valid_element(regulariser: str) -> None:
    """Between the one-sided derivatives of θ -> L, for θ found by bisection."""
    told, apart = 0, 0
    for seed in range(6):
        case = make("reflecting", regulariser, 300 + seed, torch.float64)
        x = first(case)
        found = crossing(case, x)
        if found is None:
            continue
        shift, x = found
        theta = learnable(case.energy)
        theta = {**theta, WEIGHT: theta[WEIGHT] + shift}
        near = x + 1e-10 * torch.randn_like(x)
        solution = as_solution(case, theta, near)
        lower = bind(case.energy, theta).at(case.y)
        hypergradient = Implicit()(lower, Upper(LOSS, case.target), solution, rtol=1e-12)
        assert float(count_kinks(lower, solution)) >= 1
        assert float(hypergradient.kinks) >= 1
        told += 1
        loss = loss_along(case, WEIGHT, x)
        value, step = loss(shift), 1e-6
        sides = ((value - loss(shift - step)) / step, (loss(shift + step) - value) / step)
        element = float(hypergradient.grad[WEIGHT].sum())
        slack = 1e-4 * max(map(abs, (*sides, element)))
        assert min(sides) - slack <= element <= max(sides) + slack
        apart += abs(sides[0] - sides[1]) > 10 * slack
        bounded = hypergradient.bound
        assert math.isfinite(bounded), "bounds allow for the jump"
        assert max(sides) - min(sides) <= 2 * bounded + slack
    assert told >= 1
    assert apart >= 1, "the one-sided derivatives do differ"


def test_kinks_are_unknown_where_nothing_is_certified_and_none_where_smooth() -> None:
    smooth = make("identity", "tv charbonnier", 1, torch.float64)
    lower = smooth.energy.at(smooth.y)
    assert count_kinks(lower, as_solution(smooth, {}, smooth.y)).tolist() == [0]
    foe = bl.regularisers.FieldsOfExperts(weight=5.0, smoothing=0.05, potential="student-t")
    energy = bl.Variational(bl.fidelities.SquaredL2(), foe).double()
    y = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    case = Case(energy, y, y)
    assert count_kinks(energy.at(y), as_solution(case, {}, y)).tolist() == [math.inf]
