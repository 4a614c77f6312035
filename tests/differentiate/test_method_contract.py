"""What every hypergradient method promises: rows, cost, learning, words for what goes wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    ForwardMode,
    Implicit,
    JacobianFree,
    Neumann,
    Shine,
    Unrolled,
    Upper,
    ValueFunction,
)
from bilevel.ground import theta as algebra
from bilevel.ground.errors import InputError, NotCertified
from bilevel.linear import LinearStatus
from bilevel.model.bounds import Bounds
from bilevel.solve import Tolerance, minimise
from bilevel.solve.solvers import LBFGS, GradientDescent, Nesterov
from contracts.hypergradients import (
    EVERY,
    LOSS,
    PRECISE,
    HypergradientContract,
)
from contracts.zoo import make


class TestEvery(HypergradientContract):
    names = tuple(EVERY)


class Boasting(Implicit):
    """Twice the gradient, with the bound of the right one."""

    def __call__(self, *arguments, **options):
        found = super().__call__(*arguments, **options)
        return replace(found, grad={k: 2 * v for k, v in found.grad.items()})


def test_the_contract_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (EVERY, PRECISE):
        monkeypatch.setitem(registry, "boasting", Boasting())
    contract = HypergradientContract()
    for test in (
        contract.test_bounds_hold_against_finite_differences,
        contract.test_exact_where_everything_is,
    ):
        with pytest.raises(AssertionError):
            test("boasting", "plain")


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
    lost = Implicit("cg")(lower, upper, solution, rtol=1e-6)
    assert lost.unsolved.all()
    found, exact = (m(lower, upper, solution, rtol=1e-6) for m in (Implicit(), Implicit("minres")))
    assert not found.unsolved.any()
    assert algebra.norm(algebra.add(found.grad, exact.grad, -1.0)) == 0 < algebra.norm(found.grad)


def test_what_does_not_fit_is_refused() -> None:
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
