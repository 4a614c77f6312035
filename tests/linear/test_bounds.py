"""Bounds of a norm lie above it, estimates below."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap, power_estimate, schur_bound


def bound(matrix: Tensor) -> float:
    size = matrix.abs()
    m, n = matrix.shape
    return schur_bound(lambda x: x @ size.T, lambda y: y @ size, (n,), (m,))


@given(seed=st.integers(0, 2**31), m=st.integers(1, 9), n=st.integers(1, 9))
def test_schur_bound_is_above_and_below_the_product_of_the_sums(seed: int, m: int, n: int) -> None:
    torch.manual_seed(seed)
    matrix = torch.randn(m, n).double() * 10 ** torch.randn(m, 1).double()
    size = matrix.abs()
    product = float(size.sum(0).max() * size.sum(1).max())
    exact = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    assert exact * (1 - 1e-14) <= bound(matrix) <= product * (1 + 2e-12)


def test_schur_bound_is_sharp_for_a_blur_and_above_by_more_than_rounding() -> None:
    row = torch.tensor([0.5, 0.25, 0.0, 0.0, 0.25]).double()
    blur = torch.stack([row.roll(k) for k in range(5)])
    assert 1.0 < bound(blur) < 1.0 + 1e-11


def test_schur_bound_uses_the_better_side() -> None:
    wide = torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 2.0]]).double()
    sides = (float((a @ a.T).sum(1).max()) for a in (wide, wide.T))
    assert bound(wide) == pytest.approx(min(sides))


@pytest.mark.parametrize("entry", [-1.0, torch.nan, torch.inf])
def test_schur_bound_refuses_what_is_not_an_absolute_value(entry: float) -> None:
    matrix = torch.full((2, 2), entry).double()
    with pytest.raises(InputError, match="absolute values"):
        schur_bound(lambda x: x @ matrix.T, lambda y: y @ matrix, (2,), (2,))


@given(seed=st.integers(0, 2**31), n=st.integers(1, 10), steps=st.integers(1, 20))
def test_power_estimate_is_below(seed: int, n: int, steps: int) -> None:
    torch.manual_seed(seed)
    half = torch.randn(n, n).double()
    gram = half @ half.T
    estimate = power_estimate(LinearMap.shared(lambda v: v @ gram), (n,), steps=steps, seed=seed)
    assert 0 < estimate <= float(torch.linalg.eigvalsh(gram)[-1]) * (1 + 1e-12)


def test_power_estimate_comes_close_and_repeats() -> None:
    scales = torch.arange(1.0, 7.0).double().reshape(1, 1, 2, 3)
    gram = LinearMap.shared(lambda v: scales * v)
    estimate = power_estimate(gram, (1, 2, 3), steps=200, seed=3)
    assert estimate == pytest.approx(6.0)
    assert estimate == power_estimate(gram, (1, 2, 3), steps=200, seed=3)
    one = [power_estimate(gram, (1, 2, 3), steps=1, seed=seed) for seed in (3, 4)]
    assert one[0] != one[1]


def test_power_estimate_of_zero() -> None:
    assert power_estimate(LinearMap.shared(torch.zeros_like), (3,)) == 0.0


def test_power_estimate_refuses() -> None:
    with pytest.raises(InputError, match="finite"):
        power_estimate(LinearMap.shared(lambda v: v * torch.nan), (3,))
    with pytest.raises(InputError, match="at least 1"):
        power_estimate(LinearMap.shared(lambda v: v), (3,), steps=0)
