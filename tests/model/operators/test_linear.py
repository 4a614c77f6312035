"""Operators of two functions, and the check of their adjoints."""

from __future__ import annotations

from math import inf

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground.errors import BilevelWarning, InputError
from bilevel.model.operators import Linear, Operator, Shape
from contracts.operators import Case, OperatorContract, images

MATRIX = images((1, 5, 12))[0, 0]
SHAPE: Shape = (1, 3, 4)


def flat(norm: float | None = None) -> Linear:
    def apply(x: Tensor) -> Tensor:
        return x.flatten(1) @ MATRIX.to(x).T

    def transpose(y: Tensor) -> Tensor:
        return (y @ MATRIX.to(y)).reshape(-1, *SHAPE)

    return Linear(apply, transpose, SHAPE, norm)


def fourier(norm: float | None = 1.0) -> Linear:
    """From real images to complex data (b, h, w)."""
    return Linear(
        lambda x: torch.fft.fft2(x[:, 0], norm="ortho"),
        lambda y: torch.fft.ifft2(y, norm="ortho")[:, None],
        SHAPE,
        norm,
    )


def paired() -> Linear:
    """From complex images to complex data (b, c, h, w)."""
    return Linear(
        lambda x: torch.fft.fft2(x, norm="ortho"),
        lambda y: torch.fft.ifft2(y, norm="ortho"),
        (2, 3, 4),
        paired=True,
    )


class TestLinear(OperatorContract):
    cases = (
        Case("flat data", flat, SHAPE, loose=1.0 + 1e-9),
        Case("vouched", lambda: flat(float(torch.linalg.matrix_norm(MATRIX, 2))), SHAPE, loose=1.1),
        Case("complex data", fourier, SHAPE, loose=1.0 + 1e-9),
        Case("complex, proved", lambda: fourier(None), SHAPE, loose=1.0 + 1e-9),
        Case("complex images", paired, (2, 3, 4), loose=1.0 + 1e-9),
    )


def test_complex_data_are_laid_out_as_in_the_library() -> None:
    x, ours = images(SHAPE), bl.operators.FourierMask(torch.ones(3, 4)).double()
    torch.testing.assert_close(fourier()(x), ours(x))


def test_of_a_large_map_without_a_norm_nothing_is_claimed() -> None:
    def build(norm: float | None) -> bl.Variational:
        operator = Linear(lambda x: x.flip(2), lambda y: y.flip(2), (1, 64, 64), norm)
        return bl.Variational(bl.fidelities.SquaredL2(operator), bl.regularisers.Tikhonov(0.1))

    y = images((1, 64, 64), torch.float32, batch=1)
    assert build(None).fidelity.operator.gram_bounds((1, 64, 64)).upper == inf
    unknown, known = (
        bl.minimise(build(norm).at(y), bl.solvers.LBFGS(), tol=bl.Tolerance(residual=1e-4))
        for norm in (None, 1.0)
    )
    torch.testing.assert_close(unknown.x, y.flip(2) / 1.1, rtol=0.0, atol=1e-2)
    assert not unknown.certificate.rms.isfinite().any()
    assert known.certificate.rms.isfinite().all()


def test_a_small_map_is_solved_with_a_proof() -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(flat()), bl.regularisers.Tikhonov(0.1)).double()
    y = images((1, 1, 5), batch=2)
    solution = bl.minimise(energy.at(y), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-8))
    gram = MATRIX.T @ MATRIX + 0.1 * torch.eye(12, dtype=torch.float64)
    expected = torch.linalg.solve(gram, (y.flatten(1) @ MATRIX).T).T.reshape(-1, *SHAPE)
    off = (solution.x - expected).flatten(1).square().mean(1).sqrt()
    assert (off <= solution.require().certificate.rms).all()


WRONG = {
    "unflipped": (lambda x: x.roll(1, 3), lambda y: y.roll(1, 3), "NOT"),
    "twice": (lambda x: x.roll(1, 3), lambda y: 2 * y.roll(-1, 3), "NOT"),
    "slightly": (lambda x: x.roll(1, 3), lambda y: 1.0001 * y.roll(-1, 3), "NOT"),
    "not a tensor": (lambda x: x.numpy(), lambda y: y, "tensor"),
    "single": (lambda x: x.float(), lambda y: y, "precision"),
    "mixed rows": (lambda x: x.sum(0, keepdim=True), lambda y: y, "each image"),
    "shape": (lambda x: x, lambda y: y[..., :2], "transpose must give"),
    "raises": (lambda x: x @ torch.ones(7, dtype=x.dtype), lambda y: y, "apply failed"),
    "single inside": (
        lambda x: (x.float() / 3).to(x.dtype),
        lambda y: (y.float() * 0.3333334).to(y.dtype),
        "NOT",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_functions_that_are_no_operator_are_refused(name: str) -> None:
    apply, transpose, said = WRONG[name]
    with pytest.raises(InputError, match=said):
        Linear(apply, transpose, SHAPE)


@pytest.mark.parametrize("shape", [(3, 4), (0, 1, 1), (1, 2.5, 3), None])
def test_bad_shapes_are_refused(shape: object) -> None:
    with pytest.raises(InputError, match="image_shape"):
        Linear(lambda x: x, lambda y: y, shape)  # type: ignore[arg-type]


def test_functions_are_not_saved_and_that_is_said_before_learning() -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(flat()), bl.regularisers.Tikhonov(0.1))
    y, target = images((1, 1, 5), torch.float32), images(SHAPE, torch.float32)
    problem = bl.BilevelProblem(
        energy, bl.losses.SquaredError(), bl.data.Pairs(y, target, ("a", "b", "c"))
    )
    with pytest.warns(BilevelWarning, match="cannot be saved.*apply"):
        fit = bl.learn(problem, budget=bl.Budget(steps=1))
    with pytest.raises(InputError, match="apply"):
        fit.save("nowhere")
    with pytest.raises(InputError, match="apply"):
        bl.learn(problem, budget=bl.Budget(steps=1), checkpoint="nowhere")


class Unflipped(Operator):
    """An operator of one's own with a wrong adjoint."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(1, 3)

    def adjoint(self, y: Tensor) -> Tensor:
        return y.roll(1, 3)

    def gram_bounds(self, image_shape: Shape) -> bl.operators.Interval:
        return bl.operators.Interval(1.0, 1.0)


def test_functions_may_write_into_what_they_are_given() -> None:
    twice = Linear(lambda x: x.mul_(2), lambda y: y.mul_(2), (1, 4, 4), norm=2.0)
    x = torch.ones(1, 1, 4, 4)
    assert torch.equal(twice(x), 2 * torch.ones(1, 1, 4, 4))
    assert torch.equal(x, torch.ones(1, 1, 4, 4))


def test_what_is_no_operator_has_no_adjoint_to_check() -> None:
    with pytest.raises(bl.InputError, match="must be an Operator"):
        bl.check_adjoint(torch.nn.Conv2d(1, 1, 3), (1, 8, 8))  # type: ignore[arg-type]


def test_check_adjoint_tells_right_from_wrong() -> None:
    right = bl.check_adjoint(bl.operators.Convolution(torch.ones(3, 3) / 9), (1, 8, 8))
    assert right.passed
    assert "agrees" in str(right)
    wrong = bl.check_adjoint(Unflipped(), (1, 8, 8))
    assert not wrong.passed
    assert wrong.double > 1e-3
    assert "NOT" in str(wrong)


def test_check_adjoint_leaves_the_operator_as_it_is() -> None:
    operator = bl.operators.Convolution(torch.ones(3, 3, dtype=torch.float64) / 9)
    bl.check_adjoint(operator, (1, 8, 8))
    assert operator.state_dict()["kernel"].dtype == torch.float64


def test_gradients_that_would_reach_nothing_are_refused() -> None:
    factor = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(InputError, match="require a gradient"):
        Linear(lambda x: factor * x, lambda y: factor * y, (1, 4, 4))


def test_a_norm_that_some_image_refutes_is_refused() -> None:
    with pytest.raises(InputError, match="upper bound"):
        Linear(lambda x: 3 * x, lambda y: 3 * y, (1, 4, 4), norm=1.0)
    Linear(lambda x: 3 * x, lambda y: 3 * y, (1, 4, 4), norm=3.0)
