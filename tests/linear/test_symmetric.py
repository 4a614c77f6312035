"""Conjugate gradients where they can, MINRES where they meet negative curvature."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bilevel.linear import LinearMap, LinearStatus, cg, symmetric


def diagonal(scales: Tensor) -> LinearMap:
    return LinearMap(lambda v: scales * v, lambda index: diagonal(scales[index]))


@pytest.mark.parametrize("start", [False, True])
def test_definite_and_indefinite_rows_are_solved_together(start: bool) -> None:
    scales = torch.tensor([[1.0, 2.0, 4.0], [1.0, -2.0, 4.0], [3.0, 1.0, 1.0]])
    b = torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 1.0], [1.0, 0.0, 2.0]])
    x0 = torch.ones_like(b) if start else None
    alone = cg(diagonal(scales), b, rtol=1e-6, x0=x0)
    assert alone.status[1] == LinearStatus.NEGATIVE_CURVATURE
    found = symmetric(diagonal(scales), b, rtol=1e-6, x0=x0).require()
    torch.testing.assert_close(found.x, b / scales)
    assert torch.equal(found.x[[0, 2]], alone.x[[0, 2]])
    assert bool((found.steps >= alone.steps).all())
    assert found.applications > alone.applications
