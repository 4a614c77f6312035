"""Searches against what is known about the functions searched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bilevel.select.search import Function, find_minimum, find_root
from bilevel.select.trail import MOST_GROWTH, interpolation

PLACES = torch.tensor([-9.0, -4.0, 0.3, 2.999, 7.0, 9.95]).double()
LOW, HIGH = torch.full((6,), -10.0).double(), torch.full((6,), 10.0).double()


def bowl(t: Tensor, index: Tensor) -> Tensor:
    away = t - PLACES[index]
    return away.square() + 0.2 * away.abs() ** 3


@pytest.mark.parametrize("first", [None, 13])
def test_minima_inside_are_found_row_by_row(first: int | None) -> None:
    found = find_minimum(bowl, LOW, HIGH, first=first, width=1e-4)
    assert bool(found.inside.all())
    assert float((found.at - PLACES).abs().max()) <= 1e-4


@pytest.mark.parametrize("first", [None, 13])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_minimum_at_an_end_is_told(first: int | None, sign: float) -> None:
    found = find_minimum(lambda t, _: sign * t, LOW, HIGH, first=first)
    assert not bool(found.inside.any())
    assert bool((found.at == -sign * 10).all())


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ends_of_any_range_are_met_exactly(sign: float, *, descending: bool) -> None:
    random = torch.Generator().manual_seed(0)
    low = -10 * torch.rand(500, generator=random, dtype=torch.float64)
    high = low + 12.6 * (1 + torch.rand(500, generator=random, dtype=torch.float64))
    least = find_minimum(lambda t, _: sign * t, low, high, descending=descending)
    assert not bool(least.inside.any())
    assert bool((least.at == (low if sign > 0 else high)).all())
    root = find_root(lambda t, _: sign + 0 * t, low, high)
    assert not bool(root.inside.any())
    assert bool((root.at == (low if sign > 0 else high)).all())


def test_rows_do_not_see_each_other() -> None:
    together = find_minimum(bowl, LOW, HIGH, width=1e-3).at
    for k in range(len(PLACES)):
        one: Function = lambda t, index, k=k: bowl(t, index + k)  # noqa: E731
        alone = find_minimum(one, LOW[:1], HIGH[:1], width=1e-3)
        assert float(alone.at) == float(together[k])


@given(st.floats(-9.9, 9.9), st.floats(0.1, 5.0))
def test_roots_of_functions_that_grow(place: float, steep: float) -> None:
    found = find_root(
        lambda t, _: torch.expm1(steep * (t - place) / 3), LOW[:1], HIGH[:1], width=1e-5
    )
    assert bool(found.inside)
    assert abs(float(found.at) - place) <= 1e-5


def test_no_root_is_told_with_the_end_reached() -> None:
    found = find_root(lambda t, index: t.sign() * 0 + 1 - 2.0 * (index == 0), LOW[:2], HIGH[:2])
    assert not bool(found.inside.any())
    assert found.at.tolist() == [10.0, -10.0]


def test_what_is_not_finite_is_avoided() -> None:
    found = find_minimum(
        lambda t, _: torch.where(t < 0, torch.nan, (t - 1).square()), LOW[:1], HIGH[:1], first=13
    )
    assert bool(found.inside)
    assert abs(float(found.at) - 1) <= 0.02


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3, unique=True), st.floats(-3, 3))
def test_interpolation_is_exact_for_lines_and_where_it_is_sure_for_parabolas(
    nodes: list[float], at: float
) -> None:
    points, where = torch.tensor(nodes).double()[:, None], torch.tensor([at]).double()
    points = points.gather(0, (points - where).abs().argsort(0))
    weights = interpolation(points, where)
    assert float((weights.sum(0) - 1).abs()) <= 1e-6
    far = float((where - points[0]).abs() / (points[1] - points[0]).abs())
    if far <= 1:
        assert abs(float((weights * points).sum()) - at) <= 1e-6
    assert float(weights.abs().sum()) <= max(3.0, MOST_GROWTH)
    if bool((weights != 0).all()):
        assert abs(float((weights * points.square()).sum()) - at**2) <= 1e-6


def test_a_parabola_goes_on_one_equal_step_outside() -> None:
    nodes = torch.tensor([2.0, 1.0, 0.0]).double()[:, None]
    weights = interpolation(nodes, torch.tensor([3.0]).double())
    assert weights.flatten().tolist() == [3.0, -3.0, 1.0]
