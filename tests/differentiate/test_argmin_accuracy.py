"""The backward pass is as accurate as the forward pass, whichever hypergradient makes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import bilevel as bl
from bilevel.differentiate import (
    EquilibriumPropagation,
    FixedPoint,
    ForwardMode,
    Hypergradient,
    Implicit,
    Unrolled,
    ValueFunction,
)
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable

TIGHT = bl.Tolerance(rms=1e-12)
RIDGE = {"learn": ()}


def experts(potential: str) -> bl.regularisers.FieldsOfExperts:
    torch.manual_seed(3)
    return bl.regularisers.FieldsOfExperts(torch.randn(2, 1, 2, 2), 0.1, 0.5, potential=potential)


REGULARISERS: dict[str, Callable[[], bl.regularisers.Regulariser]] = {
    "quadratic": lambda: bl.regularisers.Tikhonov(0.3),
    "smoothed TV": lambda: bl.regularisers.TotalVariation(0.2, 0.01),
    "Huber TV": lambda: bl.regularisers.TotalVariation(0.2, 0.05, potential="huber"),
    "experts": lambda: experts("charbonnier"),
    "sparsity": lambda: bl.regularisers.Sparsity(0.1),
}


def energy(name: str) -> bl.Variational:
    kernel = torch.tensor([[0.1, 0.2], [0.4, 0.3]])
    blur = bl.operators.Convolution(kernel, "reflecting", learn=("kernel",))
    ridge = bl.regularisers.Tikhonov(0.1, learn=())
    fidelity = bl.fidelities.SquaredL2(blur, learn=("weight",))
    return bl.Variational(fidelity, REGULARISERS[name]() + ridge).double()


def data() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 3, 4, dtype=torch.float64, generator=random)


@pytest.mark.parametrize("name", REGULARISERS)
def test_gradcheck_with_its_defaults(name: str) -> None:
    model, y = energy(name), data().requires_grad_()
    theta = {k: v.requires_grad_() for k, v in learnable(model).items()}

    def layer(y: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return bl.argmin(model, y, tol=TIGHT, theta=dict(zip(theta, values, strict=True)))

    assert torch.autograd.gradcheck(layer, (y, *theta.values()), fast_mode=True)


def test_absolute_values_of_data_hold_pixels_that_move_with_them() -> None:
    fidelity = bl.fidelities.L1(weight=0.5, learn=("weight",))
    ridge = bl.regularisers.Tikhonov(1.0)
    model, y = bl.Variational(fidelity, ridge).double(), data().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: bl.argmin(model, y, tol=TIGHT), y)


METHODS: dict[str, tuple[Hypergradient, float]] = {
    "MINRES": (Implicit("minres"), 1e-9),
    "fixed point": (FixedPoint(), 1e-9),
    "unrolled": (Unrolled(60), 1e-6),
    "forward mode": (ForwardMode(10), 1e-2),
    "equilibrium": (EquilibriumPropagation(1e-5), 1e-5),
    "value function": (ValueFunction(1e5), 1e-3),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["quadratic", "sparsity"])
def test_any_hypergradient(name: str, method: str) -> None:
    torch.manual_seed(0)
    model, upstream = energy(name), torch.randn(2, 1, 3, 4, dtype=torch.float64)
    way, allowed = METHODS[method]
    if method in ("unrolled", "forward mode") and name == "sparsity":
        pytest.skip("gradient descent needs a smooth energy")
    grads: list[torch.Tensor] = []
    for hypergradient in (None, way):
        y = data().requires_grad_()
        x = bl.argmin(model, y, tol=TIGHT, hypergradient=hypergradient)
        leaves = [y, *(p for p in model.parameters() if p.requires_grad)]
        found = torch.autograd.grad((x * upstream).sum(), leaves)
        grads.append(torch.cat([g.flatten() for g in found]))
    error = (grads[1] - grads[0]).norm() / grads[0].norm()
    assert float(error) <= allowed


def test_what_is_written_after_the_forward_pass_does_not_reach_the_backward_pass() -> None:
    grads: list[torch.Tensor] = []
    for written in (False, True):
        model, y = energy("quadratic"), data().requires_grad_()
        x = bl.argmin(model, y, tol=TIGHT)
        if written:
            for tensor in (y, *model.parameters()):
                tensor.data.mul_(1.5)
        grads.append(torch.autograd.grad(x.sum(), y)[0])
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=0)


def test_torch_func() -> None:
    model, y = energy("quadratic"), data()

    def total(y: torch.Tensor) -> torch.Tensor:
        return bl.argmin(model, y, tol=TIGHT).square().sum()

    point = y.clone().requires_grad_()
    (expected,) = torch.autograd.grad(total(point), point)
    torch.testing.assert_close(torch.func.grad(total)(y), expected)
    _, pull = torch.func.vjp(total, y)
    torch.testing.assert_close(pull(torch.ones((), dtype=y.dtype))[0], expected)
    with pytest.raises(InputError, match="stack the images along the batch"):
        torch.func.vmap(lambda image: bl.argmin(model, image[None], tol=TIGHT))(y)


def test_a_second_derivative_is_refused_in_one_sentence() -> None:
    model, y = energy("quadratic"), data().requires_grad_()
    (slope,) = torch.autograd.grad(bl.argmin(model, y, tol=TIGHT).sum(), y, create_graph=True)
    with pytest.raises(InputError, match="can be differentiated once"):
        slope.square().sum().backward()
    with pytest.raises(InputError, match="stack the images"):
        torch.func.jacrev(lambda y: bl.argmin(model, y, tol=TIGHT))(data())
