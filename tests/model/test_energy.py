"""What an objective adds to its energy: shared work, a ledger, float64 for certificates."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from contracts.zoo import OPERATORS, REGULARISERS, make


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("operator", ["identity", "circular", "matrix"])
def test_value_and_gradient_together_are_what_they_are_apart(
    operator: str, regulariser: str
) -> None:
    case = make(operator, regulariser, 3, torch.float64, batch=2)
    value, gradient = case.energy.at(case.y).value_and_grad(case.target)
    torch.testing.assert_close(value, case.energy.at(case.y).value(case.target))
    torch.testing.assert_close(gradient, case.energy.at(case.y).grad(case.target))


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_double_is_the_same_objective_in_float64(operator: str, regulariser: str) -> None:
    case = make(operator, regulariser, 3, torch.float32, batch=2)
    theta = {k: p + 0.01 for k, p in case.energy.named_parameters()}  # not leaves
    objective = case.energy.at(case.y, theta)
    double = objective.double()
    x = case.target
    torch.testing.assert_close(double.grad(x.double()).float(), objective.grad(x))
    assert double.grad(x.double()).dtype == torch.float64
    some = torch.tensor([1])
    torch.testing.assert_close(
        objective.rows(some).double().value(x[some].double()), double.value(x.double())[some]
    )
    for name, parameter in case.energy.named_parameters():
        assert parameter.dtype == torch.float32, name


def test_float64_certifies_what_float32_alone_could_not() -> None:
    """L = 1000 mu: the allowance of float32 exceeds the tolerance, the true error does not."""
    tv = bl.regularisers.TotalVariation(1.0, 0.008)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
    y = torch.rand(2, 1, 16, 16)
    tol = bl.Tolerance(rms=1e-4)
    solution = bl.minimise(energy.at(y), bl.solvers.Nesterov(), tol=tol).require()
    assert bool((energy.at(y).rounding(solution.x) / 16 > 1e-4).all())
    exact = bl.minimise(
        energy.double().at(y.double()), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-9)
    ).require()
    distance = (solution.x.double() - exact.x).square().flatten(1).mean(1).sqrt()
    assert bool((distance <= solution.certificate.rms).all())
