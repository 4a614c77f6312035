"""A sample keeps its id, and with the id its noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bilevel.data import GaussianNoise, NoNoise, Pairs, PoissonNoise, simulate
from bilevel.ground.errors import InputError
from bilevel.model.operators.operator import Interval, Operator, Shape


class Twice(Operator):
    """Two copies of every channel, of images with an even number of rows."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        return y[:, : y.shape[1] // 2] + y[:, y.shape[1] // 2 :]

    def gram_bounds(self, image_shape: Shape) -> Interval:
        del image_shape
        return Interval(2.0, 2.0)

    def data_shape(self, image_shape: Shape) -> Shape:
        if image_shape[1] % 2:
            raise InputError("Twice needs an even number of rows", given=image_shape[1])
        return (2 * image_shape[0], image_shape[1], image_shape[2])


def images(count: int = 70) -> Tensor:
    return torch.rand(count, 1, 4, 5)


@pytest.mark.parametrize("noise", [GaussianNoise(0.1), PoissonNoise(20.0)])
def test_noise_belongs_to_the_sample(noise: GaussianNoise | PoissonNoise) -> None:
    x = images()
    ids = [f"image {k}" for k in range(len(x))]
    pairs = simulate(x, Twice(), noise, seed=1, ids=ids)
    order = torch.randperm(len(x))[:9]
    some = simulate(x[order], Twice(), noise, seed=1, ids=[ids[int(k)] for k in order])
    assert bool((some.y == pairs[order].y).all())
    other = simulate(x, Twice(), noise, seed=2, ids=ids)
    assert not bool((other.y == pairs.y).flatten(1).all(1).any())


def test_samples_have_different_noise() -> None:
    x = images(1).expand(5, -1, -1, -1)
    y = simulate(x, Twice(), GaussianNoise(0.1)).y
    assert len({float(v) for v in y[:, 0, 0, 0]}) == 5


def test_without_noise_the_data_are_the_operator_applied() -> None:
    x = images()
    pairs = simulate(x, Twice(), NoNoise())
    assert bool((pairs.y == torch.cat([x, x], 1)).all())
    assert pairs.target is x
    assert pairs.ids == tuple(str(k) for k in range(70))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (torch.tensor([2, 0]), ["2", "0"]),
        ([1], ["1"]),
        (slice(1, None), ["1", "2", "3"]),
        (-1, ["3"]),
        (torch.tensor([True, False, True, False]), ["0", "2"]),
    ],
)
def test_selection_keeps_rows_together(
    index: slice | list[int] | Tensor, expected: list[str]
) -> None:
    pairs = simulate(images(4), Twice(), GaussianNoise(0.1))
    part = pairs[index]
    assert list(part.ids) == expected
    assert len(part) == len(expected)
    for row, name in enumerate(expected):
        assert bool((part.y[row] == pairs.y[int(name)]).all())
        assert bool((part.target[row] == pairs.target[int(name)]).all())


def test_iteration_and_types() -> None:
    pairs = simulate(images(3), Twice(), NoNoise())
    assert [p.ids for p in pairs] == [("0",), ("1",), ("2",)]
    double = pairs.to(torch.float64)
    assert double.y.dtype == double.target.dtype == torch.float64
    assert double.ids == pairs.ids


ONES = torch.ones(2, 1, 3, 3)
BAD = {
    "rows": (ONES, torch.ones(3, 1, 3, 3), ("a", "b")),
    "ids": (ONES, ONES, ("a",)),
    "repeated": (ONES, ONES, ("a", "a")),
    "numbers": (ONES, ONES, (1, 2)),
    "dtype": (ONES, ONES.double(), ("a", "b")),
    "integers": (ONES.long(), ONES.long(), ("a", "b")),
    "nan": (ONES, ONES * torch.nan, ("a", "b")),
    "shape": (ONES[0], ONES[0], ("a",)),
    "nothing": (ONES[:0], ONES[:0], ()),
}


@pytest.mark.parametrize("case", BAD)
def test_pairs_that_do_not_fit(case: str) -> None:
    with pytest.raises(InputError):
        Pairs(*BAD[case])  # type: ignore[arg-type]


def test_simulations_that_cannot_be() -> None:
    with pytest.raises(InputError, match="even number of rows"):
        simulate(torch.rand(2, 1, 3, 3), Twice(), NoNoise())
    with pytest.raises(InputError, match="2 samples need 2 ids, but got 1"):
        simulate(images(2), Twice(), NoNoise(), ids=["a"])
    with pytest.raises(InputError, match="'a' 2 times"):
        simulate(images(2), Twice(), NoNoise(), ids=["a", "a"])
    with pytest.raises(InputError, match="shape"):
        simulate(images(2)[0], Twice(), NoNoise())
