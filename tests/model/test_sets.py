from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bilevel.ground.errors import InputError
from bilevel.model.sets import Ball, Box, CappedSimplex, L1Ball, Product, Set, Simplex, ZeroMean

SETS = [Box(-0.5, 1.0), Ball(1.5), L1Ball(1.5), ZeroMean(1), Simplex(2.0), Box(0.0)]


def member(admissible: Set, value: torch.Tensor) -> bool:
    if isinstance(admissible, Box):
        return bool(((value >= admissible.lower) & (value <= admissible.upper)).all())
    if isinstance(admissible, Ball):
        return float(value.norm()) <= admissible.radius * (1 + 1e-12)
    if isinstance(admissible, L1Ball):
        return float(value.abs().sum()) <= admissible.radius * (1 + 1e-12)
    if isinstance(admissible, Simplex):
        return abs(float(value.sum()) - admissible.total) < 1e-9 and bool((value >= 0).all())
    return abs(float(value.mean())) < 1e-12


@pytest.mark.parametrize("admissible", SETS, ids=str)
@given(
    value=st.lists(st.floats(-5, 5), min_size=4, max_size=4),
    other=st.lists(st.floats(-5, 5), min_size=4, max_size=4),
)
def test_projection_is_the_nearest_point(admissible: Set, value, other) -> None:
    """Membership, and the variational inequality ⟨v - Pv, z - Pv⟩ <= 0 for every z of the set."""
    v = torch.tensor(value, dtype=torch.float64)
    nearest = admissible.project(v)
    assert member(admissible, nearest)
    z = admissible.project(torch.tensor(other, dtype=torch.float64))
    assert float((v - nearest) @ (z - nearest)) <= 1e-9
    torch.testing.assert_close(admissible.project(nearest), nearest)


@pytest.mark.parametrize("admissible", [*SETS, CappedSimplex(2.0), ZeroMean(1, 1.0)], ids=str)
def test_tangents_are_what_the_projection_keeps_of_a_direction(admissible: Set) -> None:
    """Differences of points stay, what is left out is orthogonal to them, and to P no matter."""
    v, w, direction = torch.randn(3, 4, dtype=torch.float64)
    difference = admissible.project(v) - admissible.project(w)
    torch.testing.assert_close(admissible.tangent(difference), difference)
    kept = admissible.tangent(direction)
    torch.testing.assert_close(admissible.tangent(kept), kept)
    torch.testing.assert_close(admissible.project(v + kept), admissible.project(v + direction))
    assert abs(float((direction - kept) @ difference)) < 1e-12


def test_product_projects_by_name() -> None:
    theta = {"a": torch.tensor(3.0), "b": torch.tensor(3.0)}
    projected = Product({"a": Box(0, 1)}).project(theta)
    assert projected["a"] == 1
    assert projected["b"] == 3


@pytest.mark.parametrize("build", [lambda: Box(1, 0), lambda: Ball(-1), lambda: Simplex(0)])
def test_empty_sets_are_refused(build) -> None:
    with pytest.raises(InputError):
        build()
