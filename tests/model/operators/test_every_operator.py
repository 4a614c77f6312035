"""One table of all operators: adjoint, norm, batches, scales and what is learnable in them."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground import rows
from bilevel.ground.theta import bind, learnable
from bilevel.model import operators
from bilevel.model.operators import Operator, Shape
from contracts.operators import OperatorContract, dense, images

KERNEL = images((1, 3, 4))[0, 0].float()
BLUR = torch.tensor([[0.05, 0.1, 0.0], [0.1, 0.5, 0.1], [0.0, 0.05, 0.1]])
BOUNDARIES = ("circular", "zero", "reflecting", "valid")


def maps(size: tuple[int, int]) -> Tensor:
    return bl.data.birdcage(size, 3)


Make = Callable[[], Operator]
ELEMENTARY: dict[str, tuple[Make, Shape]] = {
    "Identity": (operators.Identity, (1, 5, 7)),
    "Mask": (lambda: operators.Mask(images((1, 5, 7))[0, 0] > 0), (2, 5, 7)),
    "Differences": (operators.Differences, (1, 9, 7)),
    "FourierMask": (lambda: operators.FourierMask.lines((7, 9), 2.0, 0.3, 0), (1, 7, 9)),
    "MultiCoil": (lambda: operators.MultiCoil(torch.ones(7, 5), maps((7, 5))), (2, 7, 5)),
    "Matrix": (lambda: operators.Matrix(images((1, 4, 15))[0, 0], (1, 3, 5)), (1, 3, 5)),
    "Linear": (
        lambda: operators.Linear(lambda x: 3 * x.flip(3), lambda y: 3 * y.flip(3), (1, 3, 5)),
        (1, 3, 5),
    ),
    "Downsampling": (lambda: operators.Downsampling((3, 1), KERNEL), (1, 9, 7)),
    "Wavelets": (lambda: operators.Wavelets("daubechies-3", 2), (2, 5, 7)),
    **{
        f"Convolution, {b}": (lambda b=b: operators.Convolution(BLUR, b), (1, 13, 11))  # type: ignore[misc]
        for b in BOUNDARIES
    },
    **{
        f"GaussianBlur, {b}": (lambda b=b: operators.GaussianBlur(0.9, 5, b), (1, 13, 11))  # type: ignore[misc]
        for b in BOUNDARIES
    },
}
"""Whose bound of the norm is at most 1.3 times the norm."""
RADON: dict[str, tuple[Make, Shape]] = {
    "Radon": (lambda: operators.Radon((7, 9), 11), (1, 7, 9)),
    "Radon, fan": (lambda: operators.Radon((9, 7), 11, source=20.0), (1, 9, 7)),
}
COMPOSED: dict[str, tuple[Make, Shape]] = {
    "Composition": (lambda: operators.Mask(KERNEL > 0) @ operators.Convolution(BLUR), (1, 3, 4)),
    "Added": (lambda: operators.Convolution(BLUR) + operators.Identity(), (1, 7, 5)),
    "Scaled": (lambda: -2.0 * operators.Convolution(BLUR), (1, 7, 5)),
    "Stacked": (
        lambda: operators.Stacked(
            [operators.Convolution(BLUR, "valid"), operators.Identity()], (1, 7, 5)
        ),
        (1, 7, 5),
    ),
}
LOOSE = {**dict.fromkeys(ELEMENTARY, 1.3), **dict.fromkeys(RADON, 1.35)}
ALL = {**ELEMENTARY, **RADON, **COMPOSED}


def test_no_operator_is_missing_here_or_in_the_contract() -> None:
    """Whatever the family has stands in this table and in a class that inherits the contract."""
    family = {
        name
        for name, value in vars(operators).items()
        if isinstance(value, type) and issubclass(value, Operator) and value is not Operator
    }
    assert {name.partition(",")[0] for name in ALL} >= family
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"model.operators.{info.name}")
    built = {
        type(case.build()).__name__
        for suite in OperatorContract.__subclasses__()
        for case in suite.cases
    }
    assert built >= family


@pytest.mark.parametrize("name", ALL)
def test_the_bound_of_the_norm_is_above_it_and_near(name: str) -> None:
    make, shape = ALL[name]
    operator = make().double()
    norm = float(torch.linalg.matrix_norm(dense(operator, shape), 2))
    bound = operator.gram_bounds(shape).upper ** 0.5
    assert norm * (1 - 1e-12) <= bound <= LOOSE.get(name, torch.inf) * norm * (1 + 1e-9)


@pytest.mark.parametrize("name", ALL)
def test_the_adjoint_is_exact_in_both_precisions(name: str) -> None:
    make, shape = ALL[name]
    found = bl.check_adjoint(make(), shape)
    assert found.single <= 1e-6
    assert found.double <= 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_what_rounding_may_do_is_allowed_for(name: str, dtype: torch.dtype) -> None:
    """A x and Aᵀ y are within ``roundings`` eps of ‖A‖‖x‖ and ‖A‖‖y‖, against the dense matrix."""
    make, shape = ALL[name]
    operator = make().to(dtype)
    exact = copy.deepcopy(operator).double()
    matrix = dense(exact, shape)
    allowed = operator.roundings * torch.finfo(dtype).eps * operator.gram_bounds(shape).upper ** 0.5
    x, y = images(shape, dtype), images(operator.data_shape(shape), dtype)
    for found, given, true in (
        (operator(x), x, x.double().flatten(1) @ matrix.T),
        (operator.adjoint(y), y, y.double().flatten(1) @ matrix),
    ):
        off = rows.norm(found.double().flatten(1) - true)
        rounding = 1e-15 * float(torch.linalg.matrix_norm(matrix, "fro"))
        assert (off <= (allowed + rounding) * rows.norm(given).double()).all()


LEARNABLE: dict[str, tuple[Make, Shape]] = {
    **{
        f"Convolution, {b}": (
            lambda b=b: operators.Convolution(KERNEL, b, learn=("kernel",)),  # type: ignore[misc]
            (1, 7, 5),
        )
        for b in BOUNDARIES
    },
    **{
        f"GaussianBlur, {b}": (
            lambda b=b: operators.GaussianBlur(0.8, 5, b, learn=("sigma",)),  # type: ignore[misc]
            (1, 7, 9),
        )
        for b in BOUNDARIES
    },
    "Downsampling": (
        lambda: operators.Downsampling((2, 3), KERNEL, learn=("kernel",)),
        (2, 6, 9),
    ),
    "Composition": (
        lambda: operators.Mask(BLUR) @ operators.Convolution(BLUR, learn=("kernel",)),
        (1, 3, 3),
    ),
    "Added": (
        lambda: operators.Convolution(BLUR, learn=("kernel",)) + operators.Identity(),
        (1, 7, 5),
    ),
    "Scaled": (lambda: 3.0 * operators.Convolution(BLUR, learn=("kernel",)), (1, 7, 5)),
    "Stacked": (
        lambda: operators.Stacked(
            [operators.Convolution(BLUR, learn=("kernel",)), operators.Identity()], (1, 7, 5)
        ),
        (1, 7, 5),
    ),
}


@pytest.mark.parametrize("name", LEARNABLE)
def test_derivatives_by_parameters_are_those_of_differences_and_bounded(name: str) -> None:
    make, shape = LEARNABLE[name]
    operator = make().double()
    x, y = images(shape), images(operator.data_shape(shape)).roll(1, 0)
    theta, step = learnable(operator), 1e-5
    assert theta
    bound = operator.sensitivity(shape)
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        move = {k: torch.randn(v.shape, generator=rng, dtype=v.dtype) for k, v in theta.items()}
        size = float(torch.cat([v.flatten() for v in move.values()]).norm())
        ends = [bind(operator, {k: theta[k] + s * move[k] for k in theta}) for s in (step, -step)]
        leaves = {k: v.clone().requires_grad_() for k, v in theta.items()}
        here = bind(operator, leaves)
        for apply, point, other in (("forward", x, y), ("adjoint", y, x)):
            change = [getattr(end, apply)(point).detach() for end in ends]
            slope = (change[0] - change[1]) / (2 * step)
            value = (getattr(here, apply)(point) * other).sum()
            found = torch.autograd.grad(value, list(leaves.values()))
            total = sum((g * m).sum() for g, m in zip(found, move.values(), strict=True))
            torch.testing.assert_close(total, (slope * other).sum(), rtol=1e-6, atol=1e-7)
            most = (1 + 1e-5) * bound * size * rows.norm(point)
            assert (rows.norm(slope) <= most).all()


SCALED: dict[str, tuple[Callable[[float], Operator], Shape]] = {
    "MultiCoil": (
        lambda s: operators.MultiCoil(torch.ones(7, 5), s * maps((7, 5))),
        (2, 7, 5),
    ),
    "Linear": (
        lambda s: operators.Linear(
            lambda x: s * (x + x.roll(1, 3)), lambda y: s * (y + y.roll(-1, 3)), (1, 7, 5)
        ),
        (1, 7, 5),
    ),
    "Radon": (lambda s: operators.Radon((7, 5), 9, spacing=s, pixel=s), (1, 7, 5)),
    "fan": (
        lambda s: operators.Radon((7, 5), 9, spacing=s, pixel=s, source=20 * s, behind=3 * s),
        (1, 7, 5),
    ),
    "GaussianBlur": (lambda s: s * operators.GaussianBlur(0.8, 5, "reflecting"), (1, 7, 5)),
}


@pytest.mark.parametrize("scale", [1e-6, 1e5])
@pytest.mark.parametrize("name", SCALED)
def test_operators_of_any_size_behave_alike(name: str, scale: float) -> None:
    make, shape = SCALED[name]
    operator, plain = make(scale), make(1.0)
    assert bl.check_adjoint(operator, shape).passed
    bound, usual = (one.double().gram_bounds(shape).upper for one in (operator, plain))
    assert bound == pytest.approx(scale**2 * usual, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1e-6, 1e5])
@pytest.mark.parametrize("name", SCALED)
def test_certificates_of_any_size_hold(name: str, scale: float, dtype: torch.dtype) -> None:
    """The operator and the images in other units: what is claimed is true and not lost."""
    make, shape = SCALED[name]
    operator = make(scale).to(dtype)
    grey = 1 / scale
    x = grey * (1 + images(shape, dtype, batch=2) / 10)
    with torch.no_grad():
        y = operator(x)
    ridge = bl.regularisers.Tikhonov(0.05 * scale**2)
    energy = bl.Variational(bl.fidelities.SquaredL2(operator), ridge).to(dtype)
    tol = bl.Tolerance(rms=1e-4 * grey)
    found = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=tol).require()
    matrix = dense(copy.deepcopy(operator).double(), shape)
    weight = float(energy.regulariser.log_weight.detach().double().exp())
    gram = matrix.T @ matrix + weight * torch.eye(matrix.shape[1], dtype=torch.float64)
    exact = torch.linalg.solve(gram, matrix.T @ y.double().flatten(1).T).T.view(2, *shape)
    assert (rows.rms(found.x.double() - exact) <= found.certificate.rms).all()
