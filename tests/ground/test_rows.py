"""Norms that proofs rest on: accurate for rows of any length, and of any size."""

from __future__ import annotations

import pytest
import torch

from bilevel.ground import rows


@pytest.mark.parametrize("count", [1, 5, 1024, 8192, 10**7])
@pytest.mark.parametrize("value", [0.05, 1.0, 1 / 3, 1e-25, 3e25])
def test_length_is_within_32_eps(count: int, value: float) -> None:
    x = torch.full((1, 1, 1, count), value)
    exact = float(x[0, 0, 0, 0].double()) * count**0.5
    assert float(rows.length(x)) == pytest.approx(exact, rel=32 * torch.finfo(x.dtype).eps)


def test_lengths_of_rows_of_different_sizes() -> None:
    x = torch.tensor([[0.0, 0.0], [3e-170, 4e-170], [3.0, 4.0], [torch.inf, 1.0]]).double()
    x[1] = torch.tensor([3e-170, 4e-170], dtype=torch.float64)
    assert rows.length(x).tolist() == pytest.approx([0.0, 5e-170, 5.0, torch.inf])
    assert rows.length(torch.full((1, 2), torch.nan)).isnan().all()
    assert rows.length(torch.zeros(2, 0)).tolist() == [0.0, 0.0]
