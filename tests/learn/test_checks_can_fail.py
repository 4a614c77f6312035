"""Every check is tried on something wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.learn.consistency import consistency
from bilevel.linear import LinearMap
from bilevel.model.operators import Interval, Mask, Operator
from contracts.operators import Case, OperatorContract

SHAPE = (1, 6, 6)
KERNELS = {
    "a shift": torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0]]),
    "a blur": torch.tensor([[0.0, 0.1, 0], [0.3, 0.5, 0.1], [0, 0, 0]]),
}


class Unflipped(Operator):
    """A zero-padded convolution whose adjoint forgets to turn the kernel."""

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.kernel = kernel[None, None]

    def forward(self, x: Tensor) -> Tensor:
        return torch.conv2d(x, self.kernel, padding=1)

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.conv2d(y, self.kernel, padding=1)

    def gram_bounds(self, image_shape: tuple[int, int, int]) -> Interval:
        return Interval(0.0, float(self.kernel.double().abs().sum().square()))


class WrongHessian(bl.regularisers.Tikhonov):
    def hessian(self, x: Tensor) -> LinearMap:
        return LinearMap.shared(lambda v: 1.1 * self.grad(v))


class WrongGradient(bl.regularisers.Tikhonov):
    def grad(self, x: Tensor) -> Tensor:
        return super().grad(x) * (1 + 0.01 * x.detach())


def problem(energy: bl.Energy, max_steps: int = 2000) -> bl.BilevelProblem:
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(1, *SHAPE, generator=rng, dtype=torch.float64)
    pairs = bl.data.Pairs(x + 0.1, x, ("a",))
    loss = bl.losses.SquaredError()
    return bl.BilevelProblem(energy.double(), loss, pairs, max_steps=max_steps)


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_adjoint_that_is_none(kernel: str) -> None:
    fidelity = bl.fidelities.SquaredL2(Unflipped(KERNELS[kernel]))
    energy = bl.Variational(fidelity, bl.regularisers.Tikhonov(0.1))
    test = bl.check_hypergradient(problem(energy, 50))
    assert not test.passed
    assert "adjoint" in str(test)


@pytest.mark.parametrize(("part", "word"), [(WrongHessian, "Hessian"), (WrongGradient, "gradient")])
def test_derivatives_that_are_wrong(part: type[bl.regularisers.Tikhonov], word: str) -> None:
    test = bl.check_hypergradient(problem(bl.Variational(bl.fidelities.SquaredL2(), part(0.3))))
    assert not test.passed
    assert f"the {word} of the lower level" in str(test)


def test_a_dual_term_without_its_adjoint() -> None:
    fidelity = bl.fidelities.L1(Unflipped(KERNELS["a blur"]))
    energy = bl.Variational(fidelity, bl.regularisers.Tikhonov(0.3)).double()
    found = consistency(energy.at(torch.rand(1, *SHAPE, dtype=torch.float64)))
    assert not all(part.passed for part in found)


def test_solves_that_missed_their_accuracy() -> None:
    tv = bl.regularisers.TotalVariation(0.3, 0.01)
    energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
    test = bl.check_hypergradient(problem(energy, 2))
    assert test.unsolved > 0
    assert not test.passed
    assert "could NOT be checked" in str(test)


def test_a_hypergradient_that_is_wrong() -> None:
    blur = bl.operators.Convolution(torch.full((1, 3), 1 / 3))
    fidelity = bl.fidelities.SquaredL2(blur)
    right = problem(bl.Variational(fidelity, bl.regularisers.Tikhonov(0.3)))
    test = bl.check_hypergradient(right)
    assert test.passed
    assert not replace(test, relative_error=1e-3).passed
    wrong = bl.BilevelProblem(
        right.energy, right.loss, right.samples, hypergradient=bl.differentiate.JacobianFree()
    )
    assert not bl.check_hypergradient(wrong).passed


CONTRACT = OperatorContract()


def test_the_contract_of_operators_finds_a_wrong_adjoint() -> None:
    case = Case("wrong", lambda: Unflipped(KERNELS["a blur"]), SHAPE)
    for check in (CONTRACT.test_adjoint, CONTRACT.test_autograd_is_the_adjoint):
        with pytest.raises(AssertionError):
            check(case, torch.float64)


def test_the_contract_of_operators_finds_a_wrong_bound() -> None:
    class Narrow(Mask):
        def gram_bounds(self, image_shape: tuple[int, int, int]) -> Interval:
            found = super().gram_bounds(image_shape)
            return Interval(found.lower, 0.9 * found.upper)

    case = Case("narrow", lambda: Narrow(torch.rand(6, 6) + 0.5), SHAPE)
    with pytest.raises(AssertionError):
        CONTRACT.test_bounds_hold_every_eigenvalue(case)
