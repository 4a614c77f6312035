"""A linear map follows its rows."""

from __future__ import annotations

import torch

from bilevel.linear import LinearMap


def test_rows_of_rows_keep_their_numbers() -> None:
    scales = torch.tensor([1.0, 2.0, 3.0, 4.0])
    operator = LinearMap.per_row(lambda v, rows: scales[rows, None] * v, 4)
    part = operator.rows(torch.tensor([3, 1, 0])).rows(torch.tensor([1, 0]))
    assert part(torch.ones(2, 1)).tolist() == [[2.0], [4.0]]
    assert operator(torch.ones(4, 1)).flatten().tolist() == scales.tolist()


def test_a_shared_map_ignores_rows() -> None:
    operator = LinearMap.shared(lambda v: 2 * v)
    assert operator.rows(torch.tensor([5]))(torch.ones(1, 2)).tolist() == [[2.0, 2.0]]
