"""Operators of PyLops, run for real where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import bilevel as bl
from contracts.operators import Case, OperatorContract, images
from interop.foreign import imported

pylops = imported("pylops")

DIMS = (5, 7)
KERNEL = np.array([[0.1, 0.2, 0.0], [0.3, 0.3, 0.1]])
SHAPE = (1, *DIMS)


def derivative(axis: int = 0) -> Any:
    return pylops.FirstDerivative(DIMS, axis=axis, dtype="float64")


def convolution() -> Any:
    return pylops.signalprocessing.Convolve2D(DIMS, h=KERNEL, offset=(1, 1), dtype="float64")


def fourier() -> Any:
    return pylops.signalprocessing.FFT2D(DIMS, norm="ortho", dtype="complex128")


THEIRS: dict[str, Callable[[], Any]] = {
    "FirstDerivative": derivative,
    "Convolve2D": convolution,
    "stacked": lambda: pylops.VStack([derivative(0), derivative(1), convolution()]),
    "chained": lambda: derivative(1) @ convolution(),
    "FFT2D": fourier,
}


def adapted(name: str) -> bl.operators.Linear:
    return bl.interop.from_pylops(THEIRS[name](), SHAPE)


class TestPyLops(OperatorContract):
    cases = tuple(
        Case(name, lambda name=name: adapted(name), SHAPE, loose=1.0 + 1e-9) for name in THEIRS
    )


@pytest.mark.parametrize("name", [name for name in THEIRS if name != "FFT2D"])
def test_it_is_its_own_matrix(name: str) -> None:
    operator, matrix = adapted(name), torch.from_numpy(THEIRS[name]().todense())
    x = images(SHAPE)
    torch.testing.assert_close(operator(x).flatten(1), x.flatten(1) @ matrix.T)


def test_data_have_the_sides_of_the_operator() -> None:
    assert bl.interop.from_pylops(convolution()).data_shape(SHAPE) == SHAPE
    assert adapted("FFT2D").data_shape(SHAPE) == (2, *DIMS)
    assert adapted("stacked").data_shape(SHAPE)[-1] == 3 * 5 * 7


def test_the_same_reconstruction_as_by_its_matrix() -> None:
    found = []
    for operator in (
        adapted("stacked"),
        bl.operators.Matrix(torch.from_numpy(THEIRS["stacked"]().todense()), SHAPE),
    ):
        ridge = bl.regularisers.Tikhonov(0.1)
        energy = bl.Variational(bl.fidelities.SquaredL2(operator), ridge).double()
        y = operator(images(SHAPE, batch=2))
        tol = bl.Tolerance(rms=1e-9)
        found.append(bl.minimise(energy.at(y), bl.solvers.Nesterov(), tol=tol).require().x)
    assert float((found[0] - found[1]).norm()) <= 1e-5 * float(found[1].norm())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: bl.interop.from_pylops(KERNEL), "PyLops LinearOperator"),
        (lambda: bl.interop.from_pylops(pylops.Identity(35)), "image_shape"),
        (lambda: bl.interop.from_pylops(convolution(), (1, 5, 6)), "35"),
        (lambda: bl.interop.from_scipy(convolution(), SHAPE), "from_pylops"),
    ],
)
def test_what_does_not_fit_is_refused(make, said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        make()


def test_an_operator_in_single_precision_is_refused_in_words() -> None:
    single = pylops.FirstDerivative(DIMS, dtype="float32")
    with pytest.raises(bl.InputError, match="float64"):
        bl.interop.from_pylops(single)
