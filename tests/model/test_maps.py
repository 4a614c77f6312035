"""Maps from few values: partitions of unity whose norm is known, of any size."""

from __future__ import annotations

import pytest
import torch

from bilevel.ground.errors import InputError
from bilevel.model.maps import Grid
from bilevel.model.regularisers import TotalVariation

KINDS = [("bilinear", (2, 3)), ("spline", (4, 6)), ("patch", (3, 2)), ("bilinear", (1, 1))]
SIZES = [(6, 8), (7, 31), (40, 6)]


@pytest.mark.parametrize(("between", "knots"), KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_a_map_is_a_partition_of_unity_with_its_norm(between, knots, size) -> None:
    grid = Grid(knots, between)
    units = torch.eye(knots[0] * knots[1], dtype=torch.float64).view(-1, *knots)
    shares = grid.spread(units, size)
    assert bool((shares >= 0).all())
    torch.testing.assert_close(shares.sum(0), torch.ones(size, dtype=torch.float64))
    dense = float(torch.linalg.matrix_norm(shares.flatten(1).T, 2))
    assert dense <= grid.norm(size) <= dense * (1 + 1e-9)


@pytest.mark.parametrize("between", ["bilinear", "spline"])
def test_what_is_linear_in_the_knots_is_linear_in_the_pixels(between) -> None:
    """At every size: the ends of the map stay where they are."""
    rows = torch.arange(5, dtype=torch.float64)[:, None].expand(5, 4)
    ends = (0.0, 4.0) if between == "bilinear" else (1.0, 3.0)
    for size in SIZES:
        found = Grid((5, 4), between).spread(rows, size)
        line = torch.linspace(*ends, size[0], dtype=torch.float64)
        torch.testing.assert_close(found, line[:, None].expand(size))


def test_patches_are_constant() -> None:
    found = Grid((2, 2), "patch").spread(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (5, 4))
    assert found[:3, :2].unique().tolist() == [1.0]
    assert found[3:, 2:].unique().tolist() == [4.0]


def test_weights_learned_at_one_size_serve_another() -> None:
    """As many parameters, and the same weights at the corners."""
    tv = TotalVariation(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 0.1, grid=(2, 2))
    small, large = (tv.weights((1, n, n + 1)) for n in (8, 32))
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(small[corner], large[corner])
    tv.check((1, 2, 40))
    whole = TotalVariation(2.0, 0.1, grid=(3, 4), between="patch")
    x = torch.rand(2, 1, 9, 8)
    torch.testing.assert_close(whole(x), TotalVariation(2.0, 0.1)(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Grid((0, 3)), "each at least 1"),
        (lambda: Grid((3, 4), "spline"), "each at least 4"),
        (lambda: Grid((3, 2.5)), "two numbers of knots"),  # type: ignore[arg-type]
        (lambda: Grid((3, 3), "cubic"), "unknown kind of grid"),  # type: ignore[arg-type]
        (lambda: TotalVariation(grid=(3,)), "two numbers of knots"),
        (lambda: TotalVariation(torch.ones(2, 2), grid=(2, 3)), "one value for each knot"),
        (lambda: TotalVariation(grid=(2, 3)).check((1, 8, 2)), "must not exceed the image"),
    ],
)
def test_bad_grids_are_named(build, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()
