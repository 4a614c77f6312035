"""How near an image is to the truth: PSNR and SSIM."""

from __future__ import annotations

import math

from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_images, check_matching, check_positive
from bilevel.ground.contrast import peak_of
from bilevel.ground.errors import InputError

__all__ = ["SSIM_WINDOW", "psnr", "ssim"]

SSIM_WINDOW = 11
"""Side of the Gaussian window of :func:`ssim` [pixel]; smaller images have no SSIM."""


def psnr(x: Tensor, target: Tensor, peak: float | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each row [dB]: (b, c, h, w), (b, c, h, w) -> (b,), float64.

    10 log10(peak²/MSE), inf where the images are equal; grey values are not clipped. The peak is
    that of all targets (:func:`~bilevel.ground.contrast.peak_of`, 1 for targets in [0, 1]) unless
    given.

    Raises:
        InputError: images that are not finite or differ in shape, or a peak that is not positive.

    Example:
        >>> import torch
        >>> round(psnr(torch.full((1, 1, 2, 2), 0.1), torch.zeros(1, 1, 2, 2)).item(), 3)
        20.0
    """
    x, target, peak = _checked(x, target, peak)
    return 20 * (peak / rows.rms(x - target)).log10()


def ssim(x: Tensor, target: Tensor, peak: float | None = None) -> Tensor:
    """Structural similarity of each row: (b, c, h, w), (b, c, h, w) -> (b,), float64, at most 1.

    Mean over channels and over all places where the 11x11 Gaussian window (σ = 1.5) fits. The peak
    as in :func:`psnr`.
    Source: Wang, Bovik, Sheikh, Simoncelli 2004, (13), K1 = 0.01, K2 = 0.03.

    Raises:
        InputError: as :func:`psnr`, or images smaller than the window.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 1, 16, 16)
        >>> bool((ssim(x, x) > 1 - 1e-12).all())
        True
    """
    x, target, peak = _checked(x, target, peak)
    if min(x.shape[2:]) < SSIM_WINDOW:
        raise InputError(
            f"SSIM needs images of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels",
            given=tuple(x.shape[2:]),
        )
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_x, mean_t = _blur(x), _blur(target)
    var_x = _blur(x * x) - mean_x**2
    var_t = _blur(target * target) - mean_t**2
    cov = _blur(x * target) - mean_x * mean_t
    luminance = (2 * mean_x * mean_t + c1) / (mean_x**2 + mean_t**2 + c1)
    contrast = (2 * cov + c2) / (var_x + var_t + c2)
    return (luminance * contrast).flatten(1).mean(1)


def _checked(x: Tensor, target: Tensor, peak: float | None) -> tuple[Tensor, Tensor, float]:
    check_images(x, "x")
    check_images(target, "target")
    check_matching(x, "x", target, "target")
    if x.shape != target.shape:
        shape = tuple(target.shape)
        raise InputError(f"x must have the shape {shape} of target", given=tuple(x.shape))
    found = peak_of(target) if peak is None else check_positive(peak, "the peak")
    return x.detach().double(), target.detach().double(), found


def _blur(x: Tensor) -> Tensor:
    """Mean under the window, where it fits."""
    reach = SSIM_WINDOW // 2
    window = [math.exp(-0.5 * (t / 1.5) ** 2) for t in range(-reach, reach + 1)]
    return _slide(_slide(x, window, 2), window, 3) / sum(window) ** 2


def _slide(x: Tensor, window: list[float], dim: int) -> Tensor:
    """Weighted sum of shifted copies: several times faster than a convolution in float64."""
    length = x.shape[dim] - SSIM_WINDOW + 1
    total = window[0] * x.narrow(dim, 0, length)
    for k in range(1, SSIM_WINDOW):
        total.add_(x.narrow(dim, k, length), alpha=window[k])
    return total
