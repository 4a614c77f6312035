"""The phantom has its known values at its known places."""

from __future__ import annotations

import math

import pytest
import torch

from bilevel.data import shepp_logan
from bilevel.ground.errors import InputError

# x, y on [-1, 1]² (y upwards), modified and original grey value.
PLACES = {
    "outside": (0.9, 0.9, 0.0, 0.0),
    "skull": (0.0, 0.9, 1.0, 2.0),
    "brain": (0.0, 0.0, 0.2, 1.02),
    "left ventricle": (-0.22, 0.0, 0.0, 1.0),
    "right ventricle": (0.22, 0.0, 0.0, 1.0),
    "only the left is that wide": (-0.35, 0.0, 0.0, 1.0),
    "the right is narrower": (0.35, 0.0, 0.2, 1.02),
    "top": (0.0, 0.45, 0.3, 1.03),
    "small circle": (0.0, -0.1, 0.3, 1.03),
    "bottom left": (-0.08, -0.605, 0.3, 1.03),
}


@pytest.mark.parametrize("place", PLACES)
def test_known_values(place: str) -> None:
    x, y, modified, original = PLACES[place]
    row, column = int((1 - y) / 2 * 801), int((x + 1) / 2 * 801)
    assert float(shepp_logan(801)[0, 0, row, column]) == pytest.approx(modified, abs=1e-6)
    value = float(shepp_logan(801, modified=False)[0, 0, row, column])
    assert value == pytest.approx(original, abs=1e-6)


def test_mean_is_the_sum_of_the_ellipses_areas() -> None:
    areas = [0.69 * 0.92, 0.6624 * 0.874, 0.11 * 0.31 + 0.16 * 0.41]
    small = 0.21 * 0.25 + 2 * 0.046**2 + 2 * 0.046 * 0.023 + 0.023**2
    total = areas[0] - 0.8 * areas[1] - 0.2 * areas[2] + 0.1 * small
    mean = float(shepp_logan(512).double().mean())
    assert mean == pytest.approx(math.pi / 4 * total, rel=2e-3)


def test_sizes() -> None:
    wide = shepp_logan((32, 48))
    assert wide.shape == (1, 1, 32, 48)
    assert wide.dtype == torch.float32
    assert float(wide.min()) >= 0
    assert float(wide.max()) <= 1
    for size in (0, (4, -1)):
        with pytest.raises(InputError, match="at least one pixel"):
            shepp_logan(size)
