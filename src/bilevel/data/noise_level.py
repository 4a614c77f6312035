"""How strong the Gaussian noise of images is, from the images alone."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground.checks import check_images
from bilevel.ground.extras import load

__all__ = ["noise_level"]


def noise_level(y: Tensor) -> Tensor:
    """The standard deviation σ of white Gaussian noise in each image (b, c, h, w), (b,) float64.

    From the median of the finest diagonal wavelet coefficients (Donoho, Johnstone 1994, section
    4.2), the mean over channels, by ``skimage.restoration.estimate_sigma``. Fine texture counts as
    noise, too: σ comes out too large, the more so the weaker the noise. Noise that was blurred,
    or data that are no image (of a Fourier mask, for one) have no such σ.

    Args:
        y: noisy images [grey value].

    Returns:
        One σ for each image [grey value].

    Raises:
        InputError: no images, or scikit-image and PyWavelets are missing: they come with
            ``pip install 'bilevel[noise]'``.
    """
    check_images(y, "y")
    what = "estimating a noise level"
    load("pywt", what, "noise")
    estimate = load("skimage.restoration", what, "noise").estimate_sigma
    images = y.detach().double().cpu().numpy()
    levels = [estimate(image, channel_axis=0, average_sigmas=True) for image in images]
    return torch.tensor([float(level) for level in levels], dtype=torch.float64, device=y.device)
