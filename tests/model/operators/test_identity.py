from __future__ import annotations

import torch

from bilevel.model.operators import Identity
from contracts.operators import Case, OperatorContract, images


class TestIdentity(OperatorContract):
    cases = (
        Case("grey", Identity, (1, 5, 4), exact=True),
        Case("colour", Identity, (3, 4, 6), exact=True),
    )


def test_gives_its_input() -> None:
    x = images((2, 3, 4))
    assert torch.equal(Identity()(x), x)
    assert torch.equal(Identity().adjoint(x), x)
