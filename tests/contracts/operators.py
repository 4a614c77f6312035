"""What every operator must do; inherit ``OperatorContract`` and list ``cases``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.model.operators import Operator, Shape

DTYPES = {torch.float32: 1e-5, torch.float64: 1e-12}


@dataclass(frozen=True)
class Case:
    """An operator on images of one shape; its upper bound is at most ``loose`` times the truth.

    Where ``exact``, both bounds are.
    """

    name: str
    build: Callable[[], Operator]
    image: Shape
    loose: float = inf
    exact: bool = False


def images(shape: Shape, dtype: torch.dtype = torch.float64, batch: int = 3) -> Tensor:
    return torch.randn(batch, *shape, dtype=torch.float64, generator=generator(0, shape)).to(dtype)


def dense(operator: Operator, shape: Shape) -> Tensor:
    """The matrix (m, n) of an operator in float64."""
    n = prod(shape)
    return operator(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).flatten(1).T


class OperatorContract:
    cases: ClassVar[Sequence[Case]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases, ids=lambda case: case.name)
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", DTYPES, ids=str)

    def test_adjoint(self, case: Case, dtype: torch.dtype) -> None:
        operator = case.build().to(dtype)
        x, y = images(case.image, dtype), images(operator.data_shape(case.image), dtype)
        y = y.roll(1, 0)  # never x itself, for which any operator is its own adjoint
        ax, aty = operator(x), operator.adjoint(y)
        assert ax.dtype == aty.dtype == dtype
        gap = (rows.inner(ax, y) - rows.inner(x, aty)).abs()
        scale = case.build().gram_bounds(case.image).upper ** 0.5
        assert (gap <= DTYPES[dtype] * scale * rows.norm(x) * rows.norm(y)).all()

    def test_shapes(self, case: Case) -> None:
        operator = case.build().double()
        data = operator.data_shape(case.image)
        assert operator(images(case.image)).shape == (3, *data)
        assert operator.adjoint(images(data)).shape == (3, *case.image)
        assert operator.image_shape(data) == case.image
        operator.check_data(images(data))

    def test_bounds_hold_every_eigenvalue(self, case: Case) -> None:
        operator = case.build().double()
        a = dense(operator, case.image)
        eigenvalues = torch.linalg.eigvalsh(a.T @ a).detach()
        bounds = operator.gram_bounds(case.image)
        rounding = 1e-12 * float(eigenvalues[-1])
        assert 0 <= bounds.lower <= float(eigenvalues[0]) + rounding
        assert float(eigenvalues[-1]) - rounding <= bounds.upper
        assert bounds.upper <= case.loose * float(eigenvalues[-1]) + 100 * rounding
        if case.exact:
            assert bounds.lower == pytest.approx(float(eigenvalues[0]), abs=100 * rounding)
            assert bounds.upper == pytest.approx(float(eigenvalues[-1]), abs=100 * rounding)

    def test_spectrum_diagonalises(self, case: Case) -> None:
        operator, x = case.build().double(), images(case.image)
        spectrum = operator.gram_spectrum(case.image)
        if spectrum is None:
            pytest.skip("not diagonal in the Fourier basis")
        assert spectrum.shape == case.image[1:]
        expected = torch.fft.ifft2(spectrum * torch.fft.fft2(x)).real
        torch.testing.assert_close(operator.adjoint(operator(x)), expected)

    def test_batch_equals_rows(self, case: Case, dtype: torch.dtype) -> None:
        operator = case.build().to(dtype)
        x = images(case.image, dtype)
        y = operator(x)
        for apply, batch in ((operator, x), (operator.adjoint, y)):
            alone = torch.cat([apply(row[None]) for row in batch])
            error = rows.norm_inf(apply(batch) - alone)
            assert (error <= DTYPES[dtype] * rows.norm_inf(alone).clamp_min(1.0)).all()

    def test_linear(self, case: Case, dtype: torch.dtype) -> None:
        operator = case.build().to(dtype)
        x = images(case.image, dtype)
        combined, expected = operator(2 * x[:1] - 3 * x[1:2]), operator(x)
        expected = 2 * expected[:1] - 3 * expected[1:2]
        assert rows.norm(combined - expected) <= 10 * DTYPES[dtype] * (1 + rows.norm(expected))

    def test_autograd_is_the_adjoint(self, case: Case, dtype: torch.dtype) -> None:
        operator = case.build().to(dtype)
        x = images(case.image, dtype).requires_grad_()
        y = images(operator.data_shape(case.image), dtype).requires_grad_()
        (pull,) = torch.autograd.grad(operator(x), x, y.detach())
        (push,) = torch.autograd.grad(operator.adjoint(y), y, x.detach())
        close = {"rtol": 10 * DTYPES[dtype], "atol": 10 * DTYPES[dtype]}
        torch.testing.assert_close(pull, operator.adjoint(y.detach()), **close)
        torch.testing.assert_close(push, operator(x.detach()), **close)

    @pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own
    def test_gradcheck(self, case: Case) -> None:
        operator = case.build().double()
        x = images(case.image, batch=2).requires_grad_()
        y = images(operator.data_shape(case.image), batch=2).requires_grad_()
        for apply, point in ((operator, x), (operator.adjoint, y)):
            assert torch.autograd.gradcheck(apply, point, fast_mode=True, check_forward_ad=True)
            assert torch.autograd.gradgradcheck(lambda v: apply(v).square(), point, fast_mode=True)  # noqa: B023

    def test_options_build_an_equal_operator(self, case: Case, dtype: torch.dtype) -> None:
        operator = case.build().to(dtype)
        twin = type(operator)(**operator.options())
        x = images(case.image, dtype)
        assert torch.equal(twin(x), operator(x))
        assert twin.gram_bounds(case.image) == operator.gram_bounds(case.image)
        assert twin.options().keys() == operator.options().keys()

    def test_copies_and_state(self, case: Case) -> None:
        operator, x = case.build().double(), images(case.image)
        expected = operator(x)
        operator.gram_bounds(case.image)
        for twin in (copy.copy(operator), copy.deepcopy(operator)):
            assert torch.equal(twin(x), expected)
        state = operator.state_dict()
        assert all(value.layout is torch.strided for value in state.values())
        fresh = case.build().double()
        fresh.load_state_dict(state)
        assert torch.equal(fresh(x), expected)

    def test_other_dtype_is_refused(self, case: Case) -> None:
        operator = case.build().float()
        if not operator.state_dict():
            pytest.skip("has no dtype of its own")
        with pytest.raises(InputError, match="float64"):
            operator(images(case.image))
        with pytest.raises(InputError, match="float64"):
            operator.adjoint(images(operator.data_shape(case.image)))

    def test_after_inference_mode_gradients_still_flow(self, case: Case) -> None:
        operator, x = case.build().double().requires_grad_(False), images(case.image)
        with torch.inference_mode():
            operator(x)
        point = x.requires_grad_()
        (gradient,) = torch.autograd.grad(operator(point).sum(), point)
        ones = torch.ones_like(operator(x.detach()))
        torch.testing.assert_close(gradient, operator.adjoint(ones))
