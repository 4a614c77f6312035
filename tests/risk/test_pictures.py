"""What pictures say of their noise is what was put in; what they cannot say is not said."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import avg_pool2d

import bilevel as bl
from bilevel.data import GaussianNoise, PoissonGaussianNoise
from bilevel.ground.randomness import generator
from bilevel.risk.pictures import picture_noise


def pictures() -> torch.Tensor:
    return bl.data.embedded_images(size=192, grey=True)[:4].double()


@pytest.mark.parametrize("level", [0.05, 0.1])
def test_white_noise_of_one_level_is_white_and_does_not_grow(level: float) -> None:
    for k, x in enumerate(pictures()):
        y = GaussianNoise(level).sample(x[None], generator(k, "white"))
        found = picture_noise(y)
        assert found.white
        assert found.growth is None
        assert found.level == pytest.approx(level, rel=0.15)


def test_correlated_noise_is_not_called_white() -> None:
    for k, x in enumerate(pictures()):
        white = torch.randn(1, 1, 194, 194, generator=generator(k, "correlated"))
        noise = avg_pool2d(white.double(), 3, 1)
        found = picture_noise(x[None] + 0.1 * noise / noise.std())
        assert found.white is False
        assert found.growth is None
        assert found.flat == pytest.approx(0.1, rel=0.35)
        assert found.level < 0.05  # what a white level would be taken for


@pytest.mark.parametrize(("gain", "read_noise", "least"), [(1.0, 2.0, 1), (3.0, 10.0, 4)])
def test_gain_and_dark_value_of_a_camera_are_right_or_not_said(
    gain: float, read_noise: float, least: int
) -> None:
    """dark = offset - read_noise²/gain; fine texture that is bright makes the gain too large."""
    offset, said = 100.0, 0
    for k, x in enumerate(pictures()):
        noise = PoissonGaussianNoise(gain, read_noise, offset)
        y = noise.sample(400 * x[None], generator(k, "camera"))
        found = picture_noise(y).growth
        if found is not None:
            said += 1
            assert 0.85 * gain <= found.gain <= 1.45 * gain
            assert found.dark == pytest.approx(offset - read_noise**2 / gain, abs=50)
    assert said >= least


def test_growth_has_the_units_of_the_picture() -> None:
    x = torch.linspace(0, 400, 128, dtype=torch.float64).expand(1, 1, 128, 128)
    y = PoissonGaussianNoise(2.0, 5.0, 100.0).sample(x, generator(0, "ramp"))
    one, two = picture_noise(y).growth, picture_noise(y / 65535).growth
    assert one is not None
    assert two is not None
    assert two.gain * 65535 == pytest.approx(one.gain, rel=1e-6)
    assert two.dark * 65535 == pytest.approx(one.dark, rel=1e-6)
    assert one.gain == pytest.approx(2.0, rel=0.1)
    assert one.read_noise(100.0) == pytest.approx(5.0, abs=3)
    assert math.isnan(one.read_noise(one.dark - 1))


def test_small_pictures_and_constant_ones_say_nothing() -> None:
    small = picture_noise(torch.rand(1, 1, 24, 24, generator=generator(0)))
    assert (small.white, small.growth) == (None, None)
    flat = picture_noise(torch.full((1, 1, 128, 128), 0.5))
    assert (flat.white, flat.growth) == (None, None)
    assert flat.level < 1e-12


def test_several_pictures_at_once_are_refused() -> None:
    with pytest.raises(bl.InputError, match="one picture"):
        picture_noise(torch.rand(2, 1, 64, 64))
