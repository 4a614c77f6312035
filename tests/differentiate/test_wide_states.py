"""Hypergradients where J is flat along further channels of the state, against differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.differentiate import Implicit, Piggyback, Upper
from bilevel.ground.theta import Theta, bind, learnable
from bilevel.solve import Claim, Tolerance, minimise
from contracts.saddles import accurate

R, F, S = bl.regularisers, bl.fidelities, bl.solvers
LOSS = bl.losses.SquaredError()
DOUBLE = torch.float64


def pictures() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(4)
    ramp = torch.linspace(0, 1, 6) + 0.7 * (torch.arange(5) > 2)[:, None]
    target = ramp.expand(2, 1, 5, 6).double()
    return target, target + 0.15 * torch.randn(2, 1, 5, 6, generator=rng).double()


TARGET, Y = pictures()
SMOOTH: dict[str, Callable[[], bl.regularisers.Regulariser]] = {
    "tgv": lambda: R.TotalGeneralisedVariation(0.12, 1.3, 0.07, potential="charbonnier"),
    "tgv huber": lambda: R.TotalGeneralisedVariation(0.12, 1.3, 0.07),
    "ictv": lambda: R.InfimalConvolutionTV(0.12, 1.3, 0.07, potential="charbonnier"),
    "ictv huber": lambda: R.InfimalConvolutionTV(0.12, 1.3, 0.07),
}


def exactly(energy: bl.Variational, start: Tensor | None = None) -> bl.Solution:
    objective = energy.at(Y)
    if start is None:
        start = minimise(objective, S.LBFGS(), tol=Tolerance(residual=1e-4)).x
    solver, tol = S.NewtonCG(forcing=0.1), Tolerance(residual=1e-11)
    return minimise(objective, solver, start, tol=tol, max_steps=60)


def slopes(energy: bl.Variational, loss: Callable[[bl.Variational], float]) -> Theta:
    """By central differences, one parameter after the other."""
    found: Theta = {}
    for name, value in learnable(energy).items():
        ends = [loss(bind(energy, {name: value + sign * 1e-5})) for sign in (1, -1)]
        found[name] = torch.tensor((ends[0] - ends[1]) / 2e-5, dtype=DOUBLE)
    return found


@pytest.mark.parametrize("linear", ["cg", "minres"])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_singular_system_gives_the_hypergradient(name: str, linear: str) -> None:
    energy = bl.Variational(F.SquaredL2(learn=("weight",)), SMOOTH[name]()).double()
    solution = exactly(energy)
    upper = Upper(LOSS, TARGET)

    def loss(moved: bl.Variational) -> float:
        return float(upper.value(exactly(moved, solution.x).x).mean())

    method = Implicit(linear)  # type: ignore[arg-type]
    found = method(energy.at(Y), upper, solution, rtol=1e-9)
    assert not bool(found.unsolved.any())
    expected = slopes(energy, loss)
    size = max(float(value.abs()) for value in expected.values())
    for key, value in expected.items():
        torch.testing.assert_close(found.grad[key], value, rtol=0, atol=1e-5 * size)


def test_only_the_value_is_proved_where_only_the_image_is() -> None:
    energy = bl.Variational(F.SquaredL2(), SMOOTH["ictv"]()).double()
    upper, lower = Upper(LOSS, TARGET), energy.at(Y)
    exact = upper.value(exactly(energy).x)
    for rms in (1e-2, 1e-3):
        solution = minimise(lower, S.LBFGS(), tol=Tolerance(rms=rms)).require()
        assert solution.certificate.claim.tolist() == [Claim.IMAGE] * 2
        found = Implicit()(lower, upper, solution)
        assert bool(found.error.isinf().all())
        assert bool(found.kinks.isinf().all())
        assert bool((found.interval < 1).all())
        assert bool(((found.corrected - exact).abs() <= found.interval).all())


@pytest.mark.long
@pytest.mark.parametrize("kind", [R.ExactTotalGeneralisedVariation, R.ExactInfimalConvolutionTV])
def test_saddle_adjoints_of_exact_forms(kind: type) -> None:
    energy = bl.Variational(F.SquaredL2(learn=("weight",)), kind(0.12, 1.3)).double()
    solution = accurate(energy, Y)
    for _ in range(6):
        solution = accurate(energy, Y, solution)
    upper = Upper(LOSS, TARGET)

    def loss(moved: bl.Variational) -> float:
        near = solution
        for _ in range(4):
            near = accurate(moved, Y, near)
        return float(upper.value(near.x).mean())

    found = Piggyback()(energy.at(Y), upper, solution, rtol=1e-8)
    expected = slopes(energy, loss)
    size = max(float(value.abs()) for value in expected.values())
    for key, value in expected.items():
        torch.testing.assert_close(found.grad[key], value, rtol=0, atol=1e-4 * size)


def test_argmin_and_its_derivatives() -> None:
    energy = bl.Variational(F.SquaredL2(), SMOOTH["tgv"]()).double()
    y = Y.clone().requires_grad_()
    x = bl.argmin(energy, y, tol=Tolerance(rms=1e-5), solver=S.LBFGS())
    assert x.shape == Y.shape
    x.square().sum().backward()
    shift = torch.randn(Y.shape, generator=torch.Generator().manual_seed(0)).double()
    ends = []
    for sign in (1, -1):
        moved = energy.at(Y + sign * 1e-4 * shift)
        start = minimise(moved, S.LBFGS(), tol=Tolerance(residual=1e-4)).x
        tol = Tolerance(residual=1e-10)
        state = minimise(moved, S.NewtonCG(forcing=0.1), start, tol=tol, max_steps=60).x
        ends.append(float(state[:, :1].square().sum()))
    assert y.grad is not None
    expected = (ends[0] - ends[1]) / 2e-4
    assert float((y.grad * shift).sum()) == pytest.approx(expected, rel=1e-3)
