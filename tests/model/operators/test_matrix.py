from __future__ import annotations

import io
import pickle
from typing import cast

import numpy as np
import pytest
import scipy.sparse
import torch

from bilevel.ground.errors import InputError
from bilevel.model.operators import Matrix, Shape
from bilevel.model.operators import matrix as module
from contracts.operators import Case, OperatorContract, dense, images

WIDE, TALL = images((1, 5, 12))[0, 0], images((1, 14, 12))[0, 0]
SPARSE = scipy.sparse.random_array((14, 12), density=0.3, rng=np.random.default_rng(0))


class TestMatrix(OperatorContract):
    cases = (
        Case("wide", lambda: Matrix(WIDE, (1, 3, 4)), (1, 3, 4), exact=True),
        Case("tall", lambda: Matrix(TALL, (3, 2, 2)), (3, 2, 2), exact=True),
        Case("SciPy", lambda: Matrix(SPARSE, (1, 4, 3)), (1, 4, 3), exact=True),
        Case("COO", lambda: Matrix(WIDE.to_sparse(), (2, 2, 3)), (2, 2, 3), exact=True),
        Case("CSR", lambda: Matrix(TALL.to_sparse_csr(), (1, 2, 6)), (1, 2, 6), exact=True),
    )


class TestLargeMatrix(OperatorContract):
    """As if the matrices were too large for exact bounds."""

    cases = (
        Case("one sign", lambda: Matrix(TALL.abs(), (3, 2, 2)), (3, 2, 2), loose=1.5),
        Case("dense", lambda: Matrix(WIDE, (1, 3, 4)), (1, 3, 4), loose=5),
        Case("sparse", lambda: Matrix(SPARSE, (1, 4, 3)), (1, 4, 3), loose=1.5),
    )

    @pytest.fixture(autouse=True)
    def small_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_EXACT_RANK", 2)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"])
def test_any_scipy_format(form: str) -> None:
    operator = Matrix(SPARSE.asformat(form), (1, 4, 3))
    np.testing.assert_allclose(dense(operator, (1, 4, 3)), SPARSE.toarray(), atol=1e-15)


def test_repeated_entries_add_up() -> None:
    entries = ([1.0, 2.0], ([0, 0], [1, 1]))
    repeated = scipy.sparse.coo_array(entries, shape=(1, 2))
    torch_coo = torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (1, 2), check_invariants=True)
    for matrix in (repeated, torch_coo):
        assert (
            Matrix(matrix, (1, 1, 2)).double()(torch.ones(1, 1, 1, 2, dtype=torch.float64)).item()
            == 3
        )


def test_finite_differences_have_a_sharp_bound() -> None:
    n = 5000
    differences = scipy.sparse.diags_array([-np.ones(n), np.ones(n - 1)], offsets=[0, 1])
    bounds = Matrix(differences, (1, 50, 100)).gram_bounds((1, 50, 100))
    assert bounds.lower == 0
    assert 3.99 < bounds.upper <= 4 * (1 + 1e-11)


def test_sparse_pickles_and_saves() -> None:
    operator, x = Matrix(SPARSE, (1, 4, 3)), images((1, 4, 3))
    file = io.BytesIO()
    torch.save(operator.state_dict(), file)
    file.seek(0)
    twin = Matrix(2 * SPARSE, (1, 4, 3))
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin(x), operator(x))
    assert torch.equal(pickle.loads(pickle.dumps(operator))(x), operator(x))


def test_integers_become_floats() -> None:
    matrix = scipy.sparse.csr_array(np.array([[1, 2]]))
    assert Matrix(matrix, (1, 1, 2))(torch.ones(1, 1, 1, 2)).item() == 3
    assert Matrix(torch.tensor([[1, 2]]), (1, 1, 2))(torch.ones(1, 1, 1, 2)).item() == 3


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.ones(4), "2 dimensions"),
        (torch.ones(0, 4), "none of them empty"),
        (torch.ones(2, 4, dtype=torch.complex64), "real numbers"),
        (torch.full((2, 4), torch.nan), "matrix must be finite"),
        (scipy.sparse.csr_array((0, 4)), "not empty"),
        (scipy.sparse.csr_array(np.full((2, 4), 1j)), "real numbers"),
        (scipy.sparse.csr_array(np.full((2, 4), np.inf)), "matrix must be finite"),
        (torch.full((2, 4), torch.nan).to_sparse(), "matrix must be finite"),
        ("matrix", "tensor of numbers"),
    ],
)
def test_bad_matrix(matrix: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Matrix(matrix, (1, 2, 2))


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, -2, -6), (1, 0, 0), (3, 4), 12])
def test_bad_image_shape(shape: object) -> None:
    with pytest.raises(InputError, match=r"image_shape .*must (have .* columns, 12|be \(a whole)"):
        Matrix(WIDE, cast(Shape, shape))


def test_bad_shapes() -> None:
    operator = Matrix(WIDE, (1, 3, 4))
    with pytest.raises(InputError, match=r"acts on images \(c, h, w\) = \(1, 3, 4\)"):
        operator(images((1, 4, 3)))
    with pytest.raises(InputError, match=r"expects data \(c, h, w\) = \(1, 1, 5\)"):
        operator.adjoint(images((1, 1, 6)))
    with pytest.raises(InputError, match=r"acts on images"):
        operator.gram_bounds((1, 4, 3))
