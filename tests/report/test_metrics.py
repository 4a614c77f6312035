from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import bilevel as bl
from bilevel.report import psnr, ssim

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(11, 30), st.integers(11, 30))


def images(size: tuple[int, ...], seed: int, peak: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth truth, and the same disturbed."""
    rng = torch.Generator().manual_seed(seed)
    target = torch.rand(size, generator=rng, dtype=torch.float64).cumsum(-1)
    target = peak * target / target.max()
    noise = torch.randn(size, generator=rng, dtype=torch.float64)
    return target + 0.1 * peak * noise, target


@given(size=SIZES, seed=st.integers(0, 99), peak=st.sampled_from([1.0, 255.0]))
def test_equals_scikit_image(size: tuple[int, int, int, int], seed: int, peak: float) -> None:
    x, target = images(size, seed, peak)
    levels, similarities = psnr(x, target, peak), ssim(x, target, peak)
    for k in range(len(x)):
        a, b = x[k].numpy(), target[k].numpy()
        assert levels[k] == pytest.approx(peak_signal_noise_ratio(b, a, data_range=peak), abs=1e-9)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        expected = structural_similarity(b, a, data_range=peak, channel_axis=0, **options)
        assert similarities[k] == pytest.approx(float(np.asarray(expected)), abs=1e-6)


def test_float32_agrees_with_float64() -> None:
    x, target = images((2, 1, 16, 16), 0, 1.0)
    assert ssim(x.float(), target.float()).allclose(ssim(x, target), atol=1e-5)
    assert psnr(x.float(), target.float()).dtype == torch.float64


def test_equal_images() -> None:
    x = torch.rand(2, 1, 12, 12)
    assert psnr(x, x).tolist() == [math.inf, math.inf]
    assert ssim(x, x).tolist() == pytest.approx([1.0, 1.0], abs=1e-12)


def test_rows_do_not_mix() -> None:
    x, target = images((3, 1, 14, 14), 1, 1.0)
    assert torch.equal(psnr(x, target)[1:2], psnr(x[1:2], target[1:2]))
    assert ssim(x, target)[1:2].allclose(ssim(x[1:2], target[1:2]), atol=1e-14)


GOOD = torch.rand(1, 1, 16, 16)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("x", "target", "peak", "message"),
    [
        (GOOD[0], GOOD, 1.0, r"x must have shape \(b, c, h, w\)"),
        (GOOD, GOOD[..., 1:], 1.0, r"shape \(1, 1, 16, 15\) of target"),
        (GOOD.double(), GOOD, 1.0, "x is torch.float64"),
        (GOOD * math.nan, GOOD, 1.0, "x must be finite"),
        (GOOD, GOOD, 0.0, "peak must be a positive"),
    ],
)
def test_bad_input(metric, x, target, peak, message) -> None:
    with pytest.raises(bl.InputError, match=message):
        metric(x, target, peak)


def test_ssim_needs_its_window() -> None:
    with pytest.raises(bl.InputError, match=r"at least 11x11 pixels, but got \(10, 16\)"):
        ssim(GOOD[..., :10, :], GOOD[..., :10, :])
