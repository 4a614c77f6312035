"""The estimated noise level: near the true one, and clear words where a package is missing."""

from __future__ import annotations

import sys

import pytest
import torch

import bilevel as bl

SMOOTH = ["astronaut", "brick", "camera", "cell", "chelsea", "coffee"]


def noisy(names: list[str], sigma: float) -> torch.Tensor:
    known = bl.data.embedded_names()
    images = bl.data.embedded_images()[[known.index(name) for name in names]]
    operator, noise = bl.operators.Identity(), bl.data.GaussianNoise(sigma)
    return bl.data.simulate(images.double(), operator, noise).y


@pytest.mark.parametrize(("sigma", "accuracy"), [(0.05, 0.1), (0.1, 0.05), (0.2, 0.05)])
def test_levels_are_found_in_pictures(sigma: float, accuracy: float) -> None:
    """The pictures themselves have details of 0.02, which weak noise does not hide."""
    pytest.importorskip("pywt")
    off = bl.data.noise_level(noisy(SMOOTH, sigma)) / sigma - 1
    assert off.dtype == torch.float64
    assert float(off.abs().max()) < accuracy


def test_texture_counts_as_noise() -> None:
    pytest.importorskip("pywt")
    weak, strong = (float(bl.data.noise_level(noisy(["grass"], s)) / s) for s in (0.05, 0.2))
    assert weak > 1.2
    assert 1.0 < strong < 1.05


def test_colours_are_averaged_and_rows_are_apart() -> None:
    pytest.importorskip("pywt")
    y = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    y[1] *= 0.1
    levels = bl.data.noise_level(y)
    torch.testing.assert_close(levels, torch.tensor([1.0, 0.1]).double(), rtol=0.05, atol=0.0)
    torch.testing.assert_close(bl.data.noise_level(y[1:]), levels[1:])


def test_rules_estimate_the_level_where_none_is_given() -> None:
    pytest.importorskip("pywt")
    y = noisy(["camera"], 0.1)[..., 100:132, 100:132]
    energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(1.0, 0.05))
    level = bl.data.noise_level(y)
    given, found = (
        bl.select(energy.double(), y, bl.rules.Discrepancy(sigma=s), width=0.1)
        for s in (level, None)
    )
    torch.testing.assert_close(found.weight, given.weight)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(bl.InputError, match=r"pip install 'bilevel\[noise\]'"):
        bl.data.noise_level(torch.rand(1, 1, 8, 8))
    with pytest.raises(bl.InputError, match="y must have shape"):
        bl.data.noise_level(torch.rand(8, 8))
