"""Cameras: numbers to light and back, with the noise that they say they have."""

from __future__ import annotations

import math

import pytest
import torch

import bilevel as bl
from bilevel.data import Camera, GaussianNoise, PoissonGaussianNoise, drawn_levels
from bilevel.ground.randomness import generator

COUNT = 200_000
CAMERA = Camera(offset=100.0, gain=2.0, read_noise=3.0, saturation=1000.0)


def test_light_and_numbers_undo_each_other_below_saturation() -> None:
    camera = Camera(offset=100.0, gain=2.0, read_noise=3.0, saturation=1000.0, unit=450.0)
    light = torch.linspace(-0.1, 1.9, 21, dtype=torch.float64)
    torch.testing.assert_close(camera.light(camera.numbers(light)), light)
    assert float(camera.numbers(torch.tensor(5.0))) == 1000.0
    assert camera.saturated(torch.tensor([999.0, 1000.0, 1001.0])).tolist() == [False, True, True]
    assert not bool(Camera().saturated(torch.tensor([1e9])))


@pytest.mark.parametrize("unit", [1.0, 65535.0])
@pytest.mark.parametrize("signal", [0.0, 7.0, 300.0])
def test_the_noise_of_a_camera_has_its_variance(signal: float, unit: float) -> None:
    camera = Camera(offset=100.0, gain=2.0, read_noise=3.0, unit=unit)
    clean = torch.full((1, 1, 400, COUNT // 400), signal / unit, dtype=torch.float64)
    y = camera.noise.sample(clean, generator(0, "camera"))
    variance = float(camera.variance(clean)[0, 0, 0, 0])
    assert variance == pytest.approx((9 + 2 * signal) / unit**2)
    assert float(y.mean()) == pytest.approx(signal / unit, abs=5 * math.sqrt(variance / COUNT))
    assert float(y.var()) == pytest.approx(variance, rel=0.03)


def test_noise_with_offset_and_saturation() -> None:
    noise = PoissonGaussianNoise(gain=1.0, read_noise=2.0, offset=100.0, saturation=130.0)
    y = noise.sample(torch.full((1, 1, 300, 300), 20.0), generator(0))
    assert float(y.max()) == 130.0
    assert float((y == 130).double().mean()) == pytest.approx(0.03, abs=0.01)
    dark = noise.sample(torch.zeros(1, 1, 300, 300), generator(1))
    assert float(dark.mean()) == pytest.approx(100.0, abs=0.05)
    assert float(dark.std()) == pytest.approx(2.0, rel=0.03)


def test_shifted_counts_have_the_mean_and_the_variance_of_the_light() -> None:
    shifted = CAMERA.noise.shifted
    for signal in (0.0, 5.0, 400.0):
        light = torch.tensor(signal)
        assert (signal + shifted.background) / shifted.peak == pytest.approx(
            float(CAMERA.variance(light))
        )
    with pytest.raises(bl.InputError, match="without read noise"):
        _ = Camera(gain=2.0).noise.shifted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gain": 0.0}, "gain"),
        ({"gain": math.nan}, "gain"),
        ({"read_noise": -1.0}, "read noise"),
        ({"offset": math.inf}, "offset"),
        ({"offset": 100.0, "saturation": 100.0}, "above the offset, 100"),
        ({"unit": 0.0}, "unit"),
    ],
)
def test_impossible_cameras(options: dict[str, float], said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        Camera(**options)
    if "unit" not in options:
        with pytest.raises(bl.InputError, match=said):
            PoissonGaussianNoise(**{"gain": 1.0, "read_noise": 1.0, **options})


def test_levels_are_drawn_for_each_sample_and_depend_on_seed_and_id_alone() -> None:
    noise, ids = GaussianNoise((0.05, 0.15)), ["a", "b", "c", "d"]
    images = torch.zeros(4, 1, 64, 64, dtype=torch.float64)
    pairs = bl.data.simulate(images, bl.operators.Identity(), noise, seed=3, ids=ids)
    levels = drawn_levels(noise, ids, 3)
    assert levels is not None
    torch.testing.assert_close(pairs.y.flatten(1).std(1), levels, rtol=0.05, atol=0)
    assert len({round(float(level), 9) for level in levels}) == 4
    alone = bl.data.simulate(images[:2], bl.operators.Identity(), noise, seed=3, ids=["c", "a"])
    assert torch.equal(alone.y, pairs.y[[2, 0]])
    other = drawn_levels(noise, ids, 4)
    assert other is not None
    assert not torch.equal(other, levels)


@pytest.mark.parametrize("levels", [(0.2, 0.1), (0.1, 0.1), (-0.1, 0.1), (0.1, math.inf)])
def test_ranges_of_levels_that_are_none(levels: tuple[float, float]) -> None:
    with pytest.raises(bl.InputError, match="sigma"):
        GaussianNoise(levels)


def test_one_level_draws_what_it_always_did() -> None:
    clean = torch.rand(1, 1, 5, 5, dtype=torch.float64)
    drawn = GaussianNoise(0.1).sample(clean, generator(0))
    normal = torch.randn(clean.shape, generator=generator(0), dtype=torch.float64)
    assert torch.equal(drawn, clean + 0.1 * normal)
