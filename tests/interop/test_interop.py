"""Operators of other libraries: the same map, its adjoint checked, and nothing imported before."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.interop import (
    NonCartesian,
    fidelity_from_deepinv,
    from_arrays,
    from_deepinv,
    from_pylops,
    from_scipy,
    to_deepinv_prior,
    to_deepinv_reconstructor,
)
from bilevel.model.operators import Matrix
from contracts.operators import Case, OperatorContract, images

RNG = np.random.default_rng(0)
DENSE, COMPLEX = RNG.standard_normal((7, 12)), RNG.standard_normal((5, 12, 2)).view(complex)[..., 0]


def blurred(image: np.ndarray) -> np.ndarray:
    return scipy.ndimage.convolve(image, np.array([[0.1, 0.2, 0.7]]), mode="constant")


def back(image: np.ndarray) -> np.ndarray:
    return scipy.ndimage.correlate(image, np.array([[0.1, 0.2, 0.7]]), mode="constant")


class TestForeign(OperatorContract):
    cases = (
        Case("SciPy", lambda: from_scipy(aslinearoperator(DENSE), (1, 3, 4)), (1, 3, 4)),
        Case("SciPy, complex", lambda: from_scipy(aslinearoperator(COMPLEX), (3, 2, 2)), (3, 2, 2)),
        Case("arrays", lambda: from_arrays(blurred, back, (1, 4, 5)), (1, 4, 5), loose=1.0 + 1e-9),
        Case("spectra", lambda: from_arrays(np.fft.fft2, adjoint_of_fft, (1, 4, 5)), (1, 4, 5)),
    )


def adjoint_of_fft(y: np.ndarray) -> np.ndarray:
    return np.fft.ifft2(y) * y.size


def test_a_scipy_operator_is_its_matrix() -> None:
    x = images((1, 3, 4))
    operator = from_scipy(aslinearoperator(DENSE), (1, 3, 4))
    matrix = Matrix(torch.from_numpy(DENSE), (1, 3, 4))
    torch.testing.assert_close(operator(x), matrix(x))
    assert operator.gram_bounds((1, 3, 4)).upper == pytest.approx(
        matrix.gram_bounds((1, 3, 4)).upper, rel=1e-9
    )


def test_the_same_reconstruction_with_and_without() -> None:
    y = images((1, 1, 7), batch=2)
    found = [
        bl.minimise(
            bl.Variational(bl.fidelities.SquaredL2(operator), bl.regularisers.Tikhonov(0.1))
            .double()
            .at(y),
            bl.solvers.Nesterov(),
            tol=bl.Tolerance(rms=1e-9),
        ).require()
        for operator in (
            from_scipy(aslinearoperator(DENSE), (1, 3, 4)),
            Matrix(torch.from_numpy(DENSE), (1, 3, 4)),
        )
    ]
    torch.testing.assert_close(found[0].x, found[1].x, rtol=0.0, atol=1e-8)


class Unflipped(LinearOperator):
    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return np.roll(x, 1)

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return np.roll(x, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: from_scipy(Unflipped(float, (12, 12)), (1, 3, 4)), "NOT"),
        (lambda: from_scipy(DENSE, (1, 3, 4)), "Matrix"),
        (lambda: from_scipy(aslinearoperator(DENSE), (1, 3, 5)), "12"),
        (lambda: from_scipy(aslinearoperator(DENSE.astype(np.float32)), (1, 3, 4)), None),
        (lambda: from_arrays(blurred, blurred, (1, 4, 5)), "NOT"),
        (lambda: from_arrays(lambda x: x > 0, back, (1, 4, 5)), "floating-point"),
    ],
)
def test_what_is_no_operator_is_refused(make, said: str | None) -> None:
    if said is None:
        make()
        return
    with pytest.raises(InputError, match=said):
        make()


MISSING = {
    "deepinv.physics": ("deepinv", lambda: from_deepinv(object(), (1, 4, 4))),
    "deepinv.optim": ("deepinv", lambda: to_deepinv_prior(bl.regularisers.TotalVariation(0.1))),
    "deepinv.models": ("deepinv", lambda: to_deepinv_reconstructor(object())),
    "pylops": ("pylops", lambda: from_pylops(object(), (1, 4, 4))),
    "finufft": ("nufft", lambda: NonCartesian(torch.zeros(3, 2), (4, 4))),
}


@pytest.mark.parametrize("module", MISSING)
def test_without_the_library_one_sentence_names_the_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra, make = MISSING[module]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"bilevel\[{extra}\]"):
        make()


def test_noises_need_the_library_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepinv.physics", None)
    with pytest.raises(InputError, match=r"bilevel\[deepinv\]"):
        fidelity_from_deepinv(object(), bl.operators.Identity())


def test_nothing_foreign_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, bilevel; print(sorted({'deepinv', 'pylops', 'finufft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
