"""How near an image is to the truth: PSNR and SSIM."""

from __future__ import annotations

from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_images, check_matching, check_positive
from bilevel.ground.contrast import peak_of
from bilevel.ground.errors import InputError
from bilevel.model.losses import SSIM
from bilevel.model.losses.ssim import WINDOW

__all__ = ["SSIM_WINDOW", "psnr", "ssim"]

SSIM_WINDOW = WINDOW
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
    loss, (c, h, w) = SSIM(peak), x.shape[1:]
    loss.check((c, h, w), (c, h, w))
    return 1 - loss.value(x, target)


def _checked(x: Tensor, target: Tensor, peak: float | None) -> tuple[Tensor, Tensor, float]:
    check_images(x, "x")
    check_images(target, "target")
    check_matching(x, "x", target, "target")
    if x.shape != target.shape:
        shape = tuple(target.shape)
        raise InputError(f"x must have the shape {shape} of target", given=tuple(x.shape))
    found = peak_of(target) if peak is None else check_positive(peak, "the peak")
    return x.detach().double(), target.detach().double(), found
