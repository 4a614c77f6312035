from __future__ import annotations

import pytest
import torch

from bilevel.ground.errors import InputError
from bilevel.model.operators import Differences
from contracts.operators import Case, OperatorContract, images


class TestDifferences(OperatorContract):
    cases = (
        Case("grey", Differences, (1, 6, 8), exact=True),
        Case("colour", Differences, (3, 4, 5), exact=True),
        Case("one row", Differences, (1, 1, 7), exact=True),
        Case("one column", Differences, (2, 5, 1), exact=True),
    )


def test_differences_by_hand_with_and_without_a_tape() -> None:
    x = images((2, 3, 4))
    expected = torch.zeros(3, 4, 3, 4, dtype=torch.float64)
    expected[:, :2, :-1] = x.diff(dim=2)
    expected[:, 2:, :, :-1] = x.diff(dim=3)
    assert torch.equal(Differences()(x), expected)
    assert torch.equal(Differences()(x.clone().requires_grad_()), expected)
    assert torch.autograd.gradcheck(Differences(), x[:1].clone().requires_grad_())


def test_an_odd_number_of_channels_is_refused() -> None:
    with pytest.raises(InputError, match="even number of channels"):
        Differences().image_shape((3, 4, 4))
