"""Noise has the mean and the variance that its name promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from bilevel.data import (
    GaussianNoise,
    ImpulseNoise,
    Noise,
    NoNoise,
    PoissonNoise,
    RicianNoise,
    SpeckleNoise,
    StudentTNoise,
)
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
        (SpeckleNoise(4.0), 0.4**2 / 4),
        (SpeckleNoise(2.5, background=0.2), 0.6**2 / 2.5),
        (StudentTNoise(0.1, degrees=9.0), 0.1**2 * 9 / 7),
        (ImpulseNoise(0.0, sigma=0.1), 0.01),
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


@pytest.mark.parametrize(
    "noise",
    [
        GaussianNoise(0.1),
        PoissonNoise(30.0),
        ImpulseNoise(0.1, sigma=0.05),
        RicianNoise(0.1),
        SpeckleNoise(3.0),
        StudentTNoise(0.1),
    ],
)
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


def test_impulses_are_as_many_and_as_large_as_asked_for() -> None:
    y = draw(ImpulseNoise(0.1, sigma=0.01, low=-1.0, high=3.0), 0.4).flatten()
    for value in (-1.0, 3.0):
        share = float((y == value).double().mean())
        assert share == pytest.approx(0.05, abs=5 * math.sqrt(0.05 / COUNT))
    rest = y[(y != -1.0) & (y != 3.0)]
    assert float(rest.std()) == pytest.approx(0.01, rel=0.02)
    random = ImpulseNoise(0.2, values="random-valued", low=-1.0, high=3.0)
    impulses = draw(random, 0.4).flatten()
    impulses = impulses[impulses != 0.4]
    assert len(impulses) == pytest.approx(0.2 * COUNT, rel=0.02)
    assert float(impulses.mean()) == pytest.approx(1.0, abs=5 * 4 / math.sqrt(12 * 0.2 * COUNT))
    assert float(impulses.min()) >= -1
    assert float(impulses.max()) < 3


def test_magnitudes_have_the_second_moment_of_rice() -> None:
    """E y² = clean² + 2 σ²."""
    y = draw(RicianNoise(0.3), 0.4)
    assert float(y.min()) >= 0
    assert float(y.square().mean()) == pytest.approx(0.4**2 + 2 * 0.3**2, rel=0.01)


def test_students_tails_are_those_of_his_law() -> None:
    """For one degree of freedom the quartiles are -1 and 1, and beyond 10 lie 6.3 %."""
    t = draw(StudentTNoise(1.0, degrees=1.0), 0.0).abs().flatten()
    assert float((t < 1).double().mean()) == pytest.approx(0.5, abs=0.006)
    assert float((t > 10).double().mean()) == pytest.approx(0.06345, abs=0.003)


@pytest.mark.parametrize(
    "noise",
    [
        GaussianNoise(10.0),
        PoissonNoise(0.2, background=5.0),
        ImpulseNoise(0.3, 20.0, high=255.0),
        RicianNoise(9.0),
        SpeckleNoise(3.0, background=20.0),
        StudentTNoise(10.0),
    ],
)
def test_noise_in_another_unit_is_the_same_noise(noise: Noise) -> None:
    grey, unit = draw(noise, 102.0), draw(noise.in_unit(255.0), 0.4)
    torch.testing.assert_close(unit, grey / 255)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ImpulseNoise(1.5), r"share of impulses must lie in \[0, 1\]"),
        (lambda: ImpulseNoise(0.1, sigma=-1.0), "sigma"),
        (lambda: ImpulseNoise(0.1, values="pepper"), "unknown values of impulses"),  # type: ignore[arg-type]
        (lambda: ImpulseNoise(0.1, low=1.0), "low < high"),
        (lambda: ImpulseNoise(0.1, high=math.inf), "low < high"),
        (lambda: RicianNoise(math.nan), "sigma"),
        (lambda: SpeckleNoise(0.0), "looks"),
        (lambda: SpeckleNoise(1.0, background=-1.0), "background"),
        (lambda: StudentTNoise(0.1, degrees=0.0), "degrees"),
    ],
)
def test_noise_that_is_none_is_refused(make: Callable[[], Noise], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


@pytest.mark.parametrize("noise", [RicianNoise(0.1), SpeckleNoise(3.0)])
def test_magnitudes_and_intensities_are_not_negative(noise: Noise) -> None:
    with pytest.raises(InputError, match="needs clean data that are not negative"):
        draw(noise, -0.5)
