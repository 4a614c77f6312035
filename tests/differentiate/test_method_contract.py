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
    problem,
)
from contracts.zoo import make


@pytest.mark.parametrize("method", EVERY)
def test_mean_over_rows(method: str) -> None:
    case = make("identity", "tv charbonnier", 2, torch.float64, batch=4)
    case = replace(case, y=case.y * torch.tensor([0.1, 1.0, 2.0, 3.0])[:, None, None, None])
    tol = Tolerance(rms=1e-3)

    def of(index: Tensor) -> bl.UpperGradient:
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
