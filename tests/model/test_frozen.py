"""What is written in place after ``energy.at(y)`` changes neither the objective nor its proofs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.model.operators import Convolution, Mask, Matrix, Operator
from bilevel.model.row_weighted import RowWeighted

SHAPE = (1, 4, 5)
Write = Callable[[Tensor], object]

OPERATORS: dict[str, Callable[[], Operator]] = {
    "kernel": lambda: Convolution(torch.tensor([[0.2, 0.5, 0.3]])),
    "mask": lambda: Mask(torch.rand(4, 5) + 0.5),
    "matrix": lambda: Matrix(torch.randn(20, 20), SHAPE),
    "sparse matrix": lambda: Matrix(torch.randn(20, 20).to_sparse(), SHAPE),
}
WRITES: dict[str, Write] = {
    "in place": lambda t: t.mul_(3.0),
    "by .data": lambda t: t.data.mul_(3.0),
}
REGULARISERS: dict[str, Callable[[], bl.regularisers.Regulariser]] = {
    "smooth": lambda: bl.regularisers.Tikhonov(0.3),
    "composite": lambda: bl.regularisers.Sparsity(0.05) + bl.regularisers.Tikhonov(0.3),
    "saddle": lambda: bl.regularisers.ExactTotalVariation(0.05) + bl.regularisers.Tikhonov(0.3),
}


def tensors(energy: bl.Energy) -> list[Tensor]:
    state = [*energy.parameters(), *energy.buffers()]
    return [t for t in state if t.is_floating_point()]


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", OPERATORS)
def test_certificates_are_those_of_the_objective_made(
    name: str, write: str, regulariser: str
) -> None:
    torch.manual_seed(0)
    operator = OPERATORS[name]()
    fidelity = bl.fidelities.SquaredL2(operator)
    energy = bl.Variational(fidelity, REGULARISERS[regulariser]()).double()
    y = energy.fidelity.operator(torch.rand(2, *SHAPE, dtype=torch.float64)).detach()
    objective, kept = energy.at(y), energy.at(y.clone())
    x, values = objective.start().clone(), [t.detach().clone() for t in tensors(energy)]
    before = bl.solve.certify(objective, x)
    with torch.no_grad():
        for tensor in (y, *tensors(energy)):
            WRITES[write](tensor)
    after = bl.solve.certify(objective, x)
    for field in ("rms", "gap", "residual"):
        torch.testing.assert_close(getattr(after, field), getattr(before, field), rtol=0, atol=0)
    solver = bl.solve.solvers.accelerated(objective)
    tol = bl.Tolerance(rms=1e-3)
    found, other = (bl.minimise(o, solver, tol=tol).require().x for o in (objective, kept))
    torch.testing.assert_close(found, other, rtol=0, atol=0)
    moved = energy.at(y)
    assert not torch.allclose(moved.value(x), objective.value(x))
    with torch.no_grad():
        for tensor, value in zip(tensors(energy), values, strict=True):
            tensor.copy_(value)
        y.div_(3.0)
    torch.testing.assert_close(energy.at(y).value(x), objective.value(x), rtol=1e-12, atol=0)


def test_an_optimiser_between_at_and_minimise() -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
    objective = energy.at(torch.ones(1, 1, 2, 2))
    energy.regulariser.log_weight.grad = torch.tensor(-1.0)
    torch.optim.SGD(energy.parameters(), lr=1.0).step()
    found = bl.minimise(objective, bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-6))
    torch.testing.assert_close(found.x, torch.full_like(found.x, 0.5))


def test_weights_of_rows() -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
    y, weight = torch.ones(1, 1, 2, 2), torch.ones(1, dtype=torch.float64)
    objective = RowWeighted(energy, weight).at(y)
    before = objective.value(torch.full_like(y, 2.0))
    for tensor in (y, weight, energy.regulariser.log_weight):
        tensor.data.mul_(7.0).add_(1.0)
    torch.testing.assert_close(objective.value(torch.full_like(y, 2.0)), before)


def test_tensors_that_are_plain_attributes_are_frozen_and_converted_too() -> None:
    class Scaled(Operator):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.full((), 0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x

        def adjoint(self, y: Tensor) -> Tensor:
            return self.scale * y

        def gram_bounds(self, image_shape: bl.operators.Shape) -> bl.operators.Interval:
            return bl.operators.Interval(0.25 * (1 - 1e-6), 0.25 * (1 + 1e-6))

    energy = bl.Variational(bl.fidelities.SquaredL2(Scaled()), bl.regularisers.Tikhonov(1.0))
    objective, x = energy.at(torch.ones(1, 1, 2, 2)), torch.ones(1, 1, 2, 2)
    before = objective.value(x)
    energy.fidelity.operator.scale.mul_(4.0)
    torch.testing.assert_close(objective.value(x), before)
    torch.testing.assert_close(objective.double().value(x.double()), before.double())
    assert energy.double().fidelity.operator.scale.dtype == torch.float64


def test_a_buffer_that_requires_a_gradient_is_named() -> None:
    mask = Mask(torch.ones(2, 2))
    mask.mask = torch.ones(2, 2, requires_grad=True)
    energy = bl.Variational(bl.fidelities.SquaredL2(mask), bl.regularisers.Tikhonov(1.0))
    with pytest.raises(bl.InputError, match=r"fidelity\.operator\.mask"):
        energy.at(torch.ones(1, 1, 2, 2))


def test_shared_parameters_stay_shared() -> None:
    tikhonov = bl.regularisers.Tikhonov(1.0)
    assert isinstance(tikhonov.log_weight, nn.Parameter)
    fidelity = bl.fidelities.SquaredL2(learn=("weight",))
    fidelity.log_weight = tikhonov.log_weight
    objective = bl.Variational(fidelity, tikhonov).at(torch.ones(1, 1, 2, 2))
    assert list(objective.theta) == ["fidelity.log_weight"]
