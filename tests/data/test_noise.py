"""Noise has the mean and the variance that its name promises."""

from __future__ import annotations

import math

import pytest
import torch

from bilevel.data import GaussianNoise, Noise, NoNoise, PoissonNoise
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator

COUNT = 200_000


def draw(noise: Noise, level: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    clean = torch.full((1, 1, 400, COUNT // 400), level, dtype=dtype)
    return noise.sample(clean, generator(0, "statistics"))


@pytest.mark.parametrize(
    ("noise", "variance"),
    [
        (GaussianNoise(0.1), 0.01),
        (GaussianNoise(3.0), 9.0),
        (PoissonNoise(50.0), 0.4 / 50),
        (PoissonNoise(2.0, background=0.6), (0.4 + 0.6) / 2),
    ],
)
def test_mean_and_variance(noise: Noise, variance: float) -> None:
    y = draw(noise, 0.4)
    assert float(y.mean()) == pytest.approx(0.4, abs=5 * math.sqrt(variance / COUNT))
    assert float(y.var()) == pytest.approx(variance, rel=0.03)


def test_gaussian_noise_is_normal() -> None:
    z = (draw(GaussianNoise(0.1), 0.4) - 0.4) / 0.1
    for bound, share in ((1.0, 0.682689), (2.0, 0.954500), (3.0, 0.997300)):
        found = float((z.abs() < bound).double().mean())
        assert found == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / COUNT))


def test_poisson_draws_are_counts() -> None:
    counts = (draw(PoissonNoise(8.0, background=0.25), 0.5) + 0.25) * 8
    assert bool((counts == counts.round()).all())
    share = float((counts == 0).double().mean())
    assert share == pytest.approx(math.exp(-6), abs=5 * math.sqrt(math.exp(-6) / COUNT))


@pytest.mark.parametrize("noise", [GaussianNoise(0.1), PoissonNoise(30.0)])
def test_float32_gets_the_noise_of_float64(noise: Noise) -> None:
    single, double = draw(noise, 0.5, torch.float32), draw(noise, 0.5)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-6)


def test_no_noise_changes_nothing() -> None:
    x = torch.rand(1, 1, 3, 3)
    for noise in (NoNoise(), GaussianNoise(0.0)):
        assert bool((noise.sample(x, generator(0)) == x).all())


def test_poisson_forgives_rounding_below_zero_only() -> None:
    x = torch.tensor([[[[-1e-8, 1.0]]]])
    assert float(PoissonNoise(10.0).sample(x, generator(0))[0, 0, 0, 0]) == 0.0
    with pytest.raises(InputError, match="not negative"):
        PoissonNoise(10.0).sample(x - 0.1, generator(0))


@pytest.mark.parametrize("level", [-0.1, math.nan, math.inf])
def test_impossible_levels(level: float) -> None:
    with pytest.raises(InputError, match="sigma"):
        GaussianNoise(level)
    with pytest.raises(InputError, match="peak"):
        PoissonNoise(level)
    with pytest.raises(InputError, match="background"):
        PoissonNoise(1.0, background=level)
