"""Crops are windows of their images, and depend on names only."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bilevel.data import centre_crop, crops, patches
from bilevel.ground.errors import InputError


def numbered(h: int, w: int, offset: float = 0.0) -> Tensor:
    """An image whose grey values name their places."""
    return (offset + torch.arange(h * w, dtype=torch.float64)).reshape(1, 1, h, w)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 3))
def test_a_crop_is_a_window_of_its_image(size: int, count: int, seed: int) -> None:
    images = [("a", numbered(9, 7)), ("b", numbered(7, 12, 1000))]
    cut, ids = crops(images, size, count, seed)
    assert cut.shape == (count, 1, size, size)
    for k in range(count):
        name, image = images[k % 2]
        corner = int(cut[k, 0, 0, 0] - image[0, 0, 0, 0])
        top, left = divmod(corner, image.shape[3])
        window = image[0, :, top : top + size, left : left + size]
        assert window.shape == cut[k].shape
        assert bool((window == cut[k]).all())
        assert ids[k] == f"{name}#{k // 2}"


def test_crops_do_not_depend_on_the_other_images_or_on_the_count() -> None:
    a, b = ("a", numbered(20, 20)), ("b", numbered(20, 20))
    both, ids = crops([a, b], 5, 9, seed=3)
    alone, alone_ids = crops([b], 5, 4, seed=3)
    assert ids[1::2] == alone_ids
    assert bool((both[1::2] == alone).all())
    assert bool((crops([a, b], 5, 4, seed=3)[0] == both[:4]).all())
    assert not bool((crops([a, b], 5, 9, seed=4)[0] == both).all())


def test_crops_reach_every_place() -> None:
    cut, _ = crops([("a", numbered(4, 3))], 2, 200)
    assert {int(v) for v in cut[:, 0, 0, 0]} == {0, 1, 3, 4, 6, 7}


@given(st.integers(1, 4), st.integers(1, 4))
def test_patches_are_all_windows(size: int, stride: int) -> None:
    x = torch.rand(2, 3, 6, 5)
    windows = [
        x[k, :, i : i + size, j : j + size]
        for k in range(2)
        for i in range(0, 6 - size + 1, stride)
        for j in range(0, 5 - size + 1, stride)
    ]
    assert bool((patches(x, size, stride) == torch.stack(windows)).all())


def test_centre_crop_keeps_the_middle() -> None:
    x = numbered(5, 6)
    assert centre_crop(x, (1, 2)).flatten().tolist() == [14.0, 15.0]
    assert centre_crop(x, 5).shape == (1, 1, 5, 5)
    assert bool((centre_crop(x, (5, 6)) == x).all())


def test_bad_input() -> None:
    grey, colour = ("grey", torch.zeros(1, 1, 8, 8)), ("colour", torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="at least one image"):
        crops([], 4, 1)
    with pytest.raises(InputError, match="number of crops"):
        crops([grey], 4, 0)
    with pytest.raises(InputError, match="grey of 8x8 pixels is smaller than"):
        crops([grey], 9, 1)
    with pytest.raises(InputError, match="at least one pixel"):
        crops([grey], 0, 1)
    with pytest.raises(InputError, match="mixed"):
        crops([grey, colour], 4, 2)
    with pytest.raises(InputError, match="all different"):
        crops([grey, grey], 4, 2)
    with pytest.raises(InputError, match="stride"):
        patches(grey[1], 4, 0)
    with pytest.raises(InputError, match="smaller"):
        patches(grey[1], 9, 1)
    with pytest.raises(InputError, match="smaller"):
        centre_crop(grey[1], (8, 9))
