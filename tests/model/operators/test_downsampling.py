from __future__ import annotations

from typing import cast

import pytest
import torch
from torch.nn import functional

from bilevel.ground.errors import InputError
from bilevel.model.operators import Convolution, Downsampling
from contracts.operators import Case, OperatorContract, images

KERNEL = images((2, 3, 4))[0]


class TestDownsampling(OperatorContract):
    cases = (
        Case("box 2", lambda: Downsampling(2), (1, 6, 4), exact=True),
        Case("box 3, colour", lambda: Downsampling(3), (3, 3, 6), exact=True),
        Case("kernel", lambda: Downsampling(2, KERNEL[0]), (1, 6, 10), exact=True),
        Case("by channel", lambda: Downsampling(3, KERNEL), (2, 6, 9), exact=True),
        Case("factor 1", lambda: Downsampling(1, KERNEL[0]), (1, 5, 4), exact=True),
        Case("rows alone", lambda: Downsampling((3, 1)), (1, 9, 5), exact=True),
        Case("2 by 3", lambda: Downsampling((2, 3), KERNEL[0]), (2, 6, 9), exact=True),
        Case("4 by 2", lambda: Downsampling((4, 2), KERNEL), (2, 8, 6), exact=True),
    )


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_default_gives_block_means(factor: int) -> None:
    x = images((2, 3 * factor, 2 * factor)) if factor > 1 else images((2, 5, 4))
    torch.testing.assert_close(
        Downsampling(factor).double()(x), functional.avg_pool2d(x, factor), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("factors", [(1, 3), (2, 1), (2, 5), (4, 3)])
def test_factors_of_each_axis_give_means_of_blocks(factors: tuple[int, int]) -> None:
    down, across = factors
    x = images((2, 3 * down, 2 * across))
    expected = functional.avg_pool2d(x, factors)
    operator = Downsampling(factors).double()
    torch.testing.assert_close(operator(x), expected, rtol=0, atol=1e-7)
    assert operator.image_shape((2, 3, 2)) == (2, 3 * down, 2 * across)


def test_keeps_pixels_of_the_blurred_image() -> None:
    x = images((1, 9, 12))
    blurred = Convolution(KERNEL[0])(x)
    torch.testing.assert_close(Downsampling(3, KERNEL[0])(x), blurred[..., 1::3, 1::3])


@pytest.mark.parametrize(
    "factor", [0, -2, 1.5, "two", float("nan"), (2,), (2, 0), (2, 1.5), (2, 2, 2), None]
)
def test_bad_factor(factor: object) -> None:
    with pytest.raises(InputError, match=r"factor (of Downsampling )?must be"):
        Downsampling(cast(int, factor))


def test_bad_image() -> None:
    with pytest.raises(InputError, match="multiples of the factor 2, but got an image of 5x4"):
        Downsampling(2)(torch.ones(1, 1, 5, 4))
    with pytest.raises(
        InputError, match="multiples of the factors 2 and 3, but got an image of 4x4"
    ):
        Downsampling((2, 3))(torch.ones(1, 1, 4, 4))
    with pytest.raises(InputError, match="2x2 kernel must not exceed"):
        Downsampling(2).adjoint(torch.ones(1, 1, 0, 4))
