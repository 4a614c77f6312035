from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch

from bilevel.ground.errors import InputError
from bilevel.model.operators import Mask
from contracts.operators import Case, OperatorContract, images

WEIGHTS = images((3, 4, 5))[0]


class TestMask(OperatorContract):
    cases = (
        Case("boolean", lambda: Mask(WEIGHTS[0] > 0), (2, 4, 5), exact=True),
        Case("weights", lambda: Mask(WEIGHTS[0]), (1, 4, 5), exact=True),
        Case("by channel", lambda: Mask(WEIGHTS), (3, 4, 5), exact=True),
    )


def test_keeps_what_is_seen() -> None:
    mask, x = WEIGHTS[0] > 0, images((2, 4, 5), torch.float32)
    y = Mask(mask)(x)
    assert torch.equal(y[..., mask], x[..., mask])
    assert not y[..., ~mask].any()


def test_is_a_copy() -> None:
    given = torch.ones(2, 2)
    operator = Mask(given)
    given.zero_()
    assert bool((operator(torch.ones(1, 1, 2, 2)) == 1).all())


def test_accepts_numpy_and_integers() -> None:
    mask = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    for given in (mask, mask > 0, torch.as_tensor(mask)):
        assert Mask(cast(torch.Tensor, given)).mask.tolist() == [[0.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(4, 4, dtype=torch.bool), "sees nothing"),
        (torch.zeros(0, 4), "none of them empty"),
        (torch.ones(4), "2 or 3 dimensions"),
        (torch.ones(4, 4, dtype=torch.complex64), "real numbers, but got torch.complex64"),
        (torch.ones(4, 4, dtype=torch.float16), "convert with .float()"),
        (torch.tensor([[1.0, torch.nan]]), "mask must be finite"),
        (
            torch.tensor([[0, 255]], dtype=torch.uint8),
            "values from 0 to 255; compare",
        ),
        (torch.tensor([[0, -1]]), "0 or 1, but got values from -1 to 0"),
        ("mask.png", "mask of Mask must be a tensor"),
    ],
)
def test_bad_mask(mask: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mask(mask)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (1, 2, 4, 1), (1, 2, 1, 5), (4, 5)])
def test_image_that_would_broadcast_is_refused(shape: tuple[int, ...]) -> None:
    operator = Mask(torch.ones(2, 4, 5))
    with pytest.raises(InputError, match=r"x must have shape|does not fit the image"):
        operator(torch.ones(shape))
    with pytest.raises(InputError, match=r"y must have shape|does not fit the image"):
        operator.adjoint(torch.ones(shape))
