"""Ritz values against dense eigenvalues."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap, lanczos


def symmetric(seed: int, b: int, n: int) -> Tensor:
    torch.manual_seed(seed)
    half = torch.randn(b, n, n, dtype=torch.float64)
    return half + half.mT


def as_map(matrices: Tensor) -> LinearMap:
    return LinearMap.per_row(
        lambda v, rows: torch.bmm(matrices[rows], v[..., None])[..., 0], len(matrices)
    )


@given(seed=st.integers(0, 2**31), n=st.integers(1, 12), steps=st.integers(1, 14))
def test_an_eigenvalue_lies_within_each_residual(seed: int, n: int, steps: int) -> None:
    matrices = symmetric(seed, 3, n)
    exact = torch.linalg.eigvalsh(matrices)
    found = lanczos(as_map(matrices), torch.randn(3, n, dtype=torch.float64), steps=steps)
    assert found.values.shape == found.residuals.shape == (3, min(n, steps))
    floor = 1e-12 * n
    off = (found.values[..., None] - exact[:, None]).abs().amin(2)
    assert bool((off <= found.residuals + floor).all())
    assert bool((exact[:, 0] <= found.values[:, 0] + floor).all())
    assert bool((exact[:, -1] >= found.values[:, -1] - floor).all())
    quotient = torch.einsum("bi,bij,bj->b", found.vector, matrices, found.vector)
    torch.testing.assert_close(quotient, found.values[:, 0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.vector.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_the_whole_space_gives_all_eigenvalues_multiple_ones_too() -> None:
    scales = torch.tensor([[2.0, 2.0, 2.0, -1.0, 0.0], [3.0, 3.0, 3.0, 3.0, 3.0]]).double()
    operator = LinearMap.per_row(lambda v, rows: scales[rows] * v, 2)
    found = lanczos(operator, torch.ones(2, 5).double(), steps=9)
    torch.testing.assert_close(found.values, scales.sort(1).values, rtol=0, atol=1e-12)
    assert float(found.residuals.max()) < 1e-12


def test_the_ends_of_a_large_spectrum_come_first() -> None:
    scales = torch.linspace(0.01, 100, 400).double()[None, None]
    scales[..., 0] = -1.0
    start = torch.randn(1, 1, 400).double()
    found = lanczos(LinearMap.shared(lambda v: scales * v), start, steps=60)
    assert float(found.values[0, 0]) == pytest.approx(-1.0, abs=1e-2)
    assert float(found.values[0, -1]) == pytest.approx(100.0, abs=1e-2)


def test_a_batch_gives_what_its_rows_give() -> None:
    matrices = symmetric(0, 4, 9)
    start = torch.randn(4, 9, dtype=torch.float64)
    together = lanczos(as_map(matrices), start, steps=5)
    for k in range(4):
        alone = lanczos(as_map(matrices[k : k + 1]), start[k : k + 1], steps=5)
        torch.testing.assert_close(alone.values[0], together.values[k], rtol=1e-12, atol=1e-13)


def test_bad_starts_are_refused() -> None:
    identity = LinearMap.shared(lambda v: v)
    with pytest.raises(InputError, match="at least 1"):
        lanczos(identity, torch.ones(1, 3), steps=0)
    with pytest.raises(InputError, match="zero"):
        lanczos(identity, torch.zeros(1, 3))
    with pytest.raises(InputError, match="finite"):
        lanczos(identity, torch.full((1, 3), torch.nan))
