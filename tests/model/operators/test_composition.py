from __future__ import annotations

from typing import cast

import pytest
import torch

from bilevel.ground.errors import InputError
from bilevel.model.operators import (
    Composition,
    Convolution,
    Downsampling,
    FourierMask,
    Identity,
    Mask,
    Operator,
)
from contracts.operators import Case, OperatorContract, dense, images

BLUR = Convolution(torch.tensor([[0.1, 0.2, 0.1]], dtype=torch.float64), "zero")
SEEN = images((1, 4, 6))[0, 0] > 0


class TestComposition(OperatorContract):
    cases = (
        Case("mask of blur", lambda: Mask(SEEN.double()) @ BLUR, (2, 4, 6), loose=3),
        Case("coarse Fourier", lambda: FourierMask(SEEN) @ Downsampling(2), (1, 8, 12), loose=2),
        Case("identity", lambda: Identity() @ Mask(SEEN), (1, 4, 6), exact=True),
        Case("three", lambda: Downsampling(2) @ (Mask(SEEN) @ Identity()), (1, 4, 6), loose=2),
    )


def test_is_the_matrix_product() -> None:
    blur, down = BLUR.double(), Downsampling(2).double()
    product = dense(down, (1, 4, 6)) @ dense(blur, (1, 4, 6))
    torch.testing.assert_close(dense(down @ blur, (1, 4, 6)), product)


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"but got Tensor; apply .* operator\(x\)"):
        Composition(Identity(), cast(Operator, torch.ones(1, 1, 2, 2)))
    with pytest.raises(InputError, match="does not fit"):
        (Mask(SEEN) @ Downsampling(2))(torch.ones(1, 1, 4, 6))
