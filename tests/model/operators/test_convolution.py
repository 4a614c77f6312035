from __future__ import annotations

import copy
from typing import cast

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.operators import Convolution, Identity
from bilevel.model.operators.boundary import Boundary
from contracts.operators import Case, OperatorContract, dense, images

MODES: dict[Boundary, str] = {"circular": "wrap", "zero": "constant", "reflecting": "reflect"}
KERNELS = images((3, 3, 3))[0]
EVEN_KERNEL = torch.tensor([[1.0, 2, 1], [3, -4, 3], [1, 2, 1]], dtype=torch.float64)
DOMINATED = torch.tensor([[0.05, -0.05], [0.15, 1.0]], dtype=torch.float64)


def gaussian(size: int, sigma: float) -> Tensor:
    line = torch.exp(-((torch.arange(size) - size // 2) ** 2).double() / (2 * sigma**2))
    return torch.outer(line, line) / line.sum() ** 2


class TestCircular(OperatorContract):
    cases = (
        Case("fast lengths", lambda: Convolution(KERNELS[0]), (2, 6, 8), exact=True),
        Case("slow lengths", lambda: Convolution(KERNELS[0]), (1, 13, 17), exact=True),
        Case("learned", lambda: Convolution(KERNELS[0], learn=("kernel",)), (1, 6, 8), exact=True),
        Case("slow and fast", lambda: Convolution(KERNELS[0, :, :2]), (1, 13, 8), exact=True),
        Case("by channel", lambda: Convolution(KERNELS), (3, 5, 13), exact=True),
        Case("image-sized", lambda: Convolution(images((1, 5, 13))[0, 0]), (1, 5, 13), exact=True),
    )


class TestZero(OperatorContract):
    cases = (
        Case("blur", lambda: Convolution(gaussian(5, 1.0), "zero"), (1, 16, 13), loose=1.2),
        Case("dominated", lambda: Convolution(DOMINATED, "zero"), (2, 6, 5), loose=1.2),
        Case("negative", lambda: Convolution(-DOMINATED, "zero"), (1, 6, 5), loose=1.2),
        Case("by channel", lambda: Convolution(KERNELS, "zero"), (3, 7, 8), loose=1.4),
        Case("image-sized", lambda: Convolution(images((1, 5, 6))[0, 0], "zero"), (1, 5, 6)),
    )


class TestReflecting(OperatorContract):
    cases = (
        Case(
            "Gaussian", lambda: Convolution(gaussian(5, 1.0), "reflecting"), (1, 9, 13), exact=True
        ),
        Case("even", lambda: Convolution(EVEN_KERNEL, "reflecting"), (2, 3, 7), exact=True),
        Case("dominated", lambda: Convolution(DOMINATED, "reflecting"), (1, 6, 5), loose=1.5),
        Case("by channel", lambda: Convolution(KERNELS, "reflecting"), (3, 7, 8), loose=3),
        Case("image-sized", lambda: Convolution(images((1, 5, 6))[0, 0], "reflecting"), (1, 5, 6)),
    )


@given(data=st.data(), boundary=st.sampled_from(list(MODES)), seed=st.integers(0, 99))
def test_equals_scipy(data: st.DataObject, boundary: Boundary, seed: int) -> None:
    h, w = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    kh, kw = data.draw(st.tuples(st.integers(1, h), st.integers(1, w)))
    random = np.random.default_rng(seed)
    kernel, x = random.standard_normal((2, kh, kw)), random.standard_normal((3, 2, h, w))
    mode = MODES[boundary]
    pairs = [list(zip(row, kernel, strict=True)) for row in x]
    expected = np.array([[scipy.ndimage.convolve(*p, mode=mode) for p in row] for row in pairs])
    operator = Convolution(torch.as_tensor(kernel), boundary)
    y = torch.as_tensor(random.standard_normal(x.shape))
    np.testing.assert_allclose(operator(torch.as_tensor(x)), expected, atol=1e-11)
    pulled = float((torch.as_tensor(x) * operator.adjoint(y)).sum())
    assert pulled == pytest.approx(float((y.numpy() * expected).sum()), abs=1e-10)


@given(
    boundary=st.sampled_from(list(MODES)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    centre=st.floats(-5, 5),
    seed=st.integers(0, 999),
)
def test_bounds_are_true(
    boundary: Boundary, size: tuple[int, int], centre: float, seed: int
) -> None:
    kernel = torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    kernel[size[0] // 2, size[1] // 2] += centre
    operator = Convolution(kernel, boundary)
    singular = torch.linalg.svdvals(dense(operator, (1, 5, 6)))
    bounds = operator.gram_bounds((1, 5, 6))
    rounding = 1e-11 * float(singular[0]) ** 2
    assert bounds.lower <= float(singular[-1]) ** 2 + rounding
    assert float(singular[0]) ** 2 <= bounds.upper + rounding


@pytest.mark.parametrize("boundary", MODES)
@pytest.mark.parametrize("kernel", [DOMINATED, -DOMINATED], ids=["plus", "minus"])
def test_dominant_centre_gives_a_positive_lower_bound(boundary: Boundary, kernel: Tensor) -> None:
    assert Convolution(kernel, boundary).gram_bounds((1, 8, 8)).lower > 0.05


@pytest.mark.parametrize("boundary", MODES)
def test_large_images_agree_with_scipy_in_float32(boundary: Boundary) -> None:
    x, kernel = torch.rand(1, 1, 107, 111), gaussian(9, 1.6).float()
    expected = scipy.ndimage.convolve(x[0, 0].numpy(), kernel.numpy(), mode=MODES[boundary])
    np.testing.assert_allclose(Convolution(kernel, boundary)(x)[0, 0], expected, atol=1e-6)


def test_a_written_kernel_is_noticed() -> None:
    operator, x = Convolution(KERNELS[0]), images((1, 6, 8))
    before, upper = operator(x), operator.gram_bounds((1, 6, 8)).upper
    operator.load_state_dict({"kernel": 2 * KERNELS[0]})
    torch.testing.assert_close(copy.deepcopy(operator)(x), 2 * before)
    torch.testing.assert_close(operator(x), 2 * before)
    assert operator.gram_bounds((1, 6, 8)).upper == pytest.approx(4 * upper)


def test_rounding_the_kernel_is_noticed() -> None:
    operator, x = Convolution(KERNELS[0]), images((1, 6, 8))
    operator(x)
    rounded = operator.float().double()
    torch.testing.assert_close(rounded(x), Convolution(KERNELS[0].float().double())(x))


def test_a_kernel_that_requires_a_gradient_is_not_copied_in_silence() -> None:
    with pytest.raises(InputError, match=r"learn=\('kernel',\)"):
        Convolution(KERNELS[0].clone().requires_grad_())
    assert not Convolution(KERNELS[0])(images((1, 6, 8))).requires_grad
    assert Convolution(KERNELS[0], learn=("kernel",))(images((1, 6, 8))).requires_grad


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (torch.ones(3), "2 or 3 dimensions"),
        (torch.ones(0, 3), "none of them empty, but got"),
        (torch.ones(1, 1, 3, 3), "2 or 3 dimensions"),
        (torch.full((3, 3), torch.nan), "kernel must be finite, but got 9 NaN"),
        (torch.full((3, 3), torch.inf), "kernel must be finite"),
        (torch.ones(3, 3, dtype=torch.complex128), "take its real part"),
        (torch.ones(3, 3, dtype=torch.bfloat16), "real numbers, but got torch.bfloat16"),
        (None, "kernel of Convolution must be a tensor"),
    ],
)
def test_bad_kernel(kernel: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Convolution(kernel)


def test_bad_boundary() -> None:
    with pytest.raises(InputError, match="unknown boundary, but got 'reflect'; did you mean"):
        Convolution(KERNELS[0], cast(Boundary, "reflect"))


@pytest.mark.parametrize("shape", [(1, 2, 5), (1, 5, 2)])
def test_kernel_larger_than_the_image(shape: tuple[int, int, int]) -> None:
    operator, message = Convolution(KERNELS[0]), "3x3 kernel must not exceed the image, but got"
    with pytest.raises(InputError, match=message):
        operator(images(shape))
    with pytest.raises(InputError, match=message):
        operator.adjoint(images(shape))
    with pytest.raises(InputError, match=message):
        operator.gram_bounds(shape)
    with pytest.raises(InputError, match=message):
        operator.gram_spectrum(shape)


def test_wrong_channels() -> None:
    with pytest.raises(InputError, match="kernel has 3 channels, but got an image with 1"):
        Convolution(KERNELS)(images((1, 6, 6)))


@pytest.mark.parametrize("size", [(3, 3), (4, 6), (5, 2)])
def test_the_window_of_valid_data_is_where_they_show_the_image(size: tuple[int, int]) -> None:
    kernel = torch.zeros(size)
    kernel[size[0] // 2, size[1] // 2] = 1.0
    x = torch.rand(1, 2, 9, 11)
    operator = Convolution(kernel, "valid")
    for whole in (operator, 1.0 * operator, Identity() @ operator, operator @ Identity()):
        rows, columns = whole.window((2, 9, 11))
        torch.testing.assert_close(whole(x), x[..., rows, columns])
    assert Convolution(kernel).window((2, 9, 11)) == (slice(0, 9), slice(0, 11))
