"""Sensitivities of receiver coils: simulated, or estimated from the middle of k-space."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_count, check_finite
from bilevel.ground.errors import InputError

__all__ = ["birdcage", "estimated_sensitivities"]


def birdcage(
    size: tuple[int, int], coils: int, radius: float = 1.5, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """Smooth sensitivities of coils on a circle, (N, h, w), Σ|S_k|² = 1 at every pixel.

    S_k is proportional to 1/(z - z_k) conjugated, the field of a straight wire at z_k.

    Args:
        size: (h, w) of the image [pixel].
        coils: how many.
        radius: of the circle, in half sides of the image; beyond √2 no coil lies within.
        dtype: complex64 or complex128.

    Raises:
        InputError: a size or count below 1, or a circle that meets the image.

    Example:
        >>> round(float(birdcage((8, 8), 4).abs().square().sum(0).mean()), 6)
        1.0
    """
    check_count(coils, "coils")
    h, w = size
    check_count(min(h, w), "the sides of the image")
    if not radius > math.sqrt(2):
        raise InputError("the radius must be larger than √2, outside the image", given=radius)
    y = torch.linspace(-1.0, 1.0, h, dtype=torch.float64)[:, None]
    x = torch.linspace(-1.0, 1.0, w, dtype=torch.float64)[None]
    angle = torch.arange(coils, dtype=torch.float64) * (2 * math.pi / coils)
    dx = x[None] - radius * angle.cos()[:, None, None]
    dy = y[None] - radius * angle.sin()[:, None, None]
    field = torch.complex(dx.expand(coils, h, w), -dy.expand(coils, h, w)) / (dx**2 + dy**2)
    field = field * torch.polar(torch.ones_like(angle), angle)[:, None, None]
    return (field / field.abs().square().sum(0).sqrt()).to(dtype)


def estimated_sensitivities(y: Tensor, centre: int, *, centred: bool = False) -> Tensor:
    """Sensitivities from the fully sampled middle of k-space: (K, 2N, h, w) -> (N, h, w).

    Of one image: those of low resolution of all coils, over the root of their sum of squares. The
    phase of the image stays in them, so that images reconstructed with them are nearly real.

    Of several images that the same coils have seen: at every pixel the direction that explains
    most of their energy (Walsh, Gmitro, Marcellin 2000), its phase that of the combination of
    coils that does so over all pixels. The phases of the images do not matter.

    Args:
        y: data of ``MultiCoil``, real parts of the coils, then imaginary parts.
        centre: side of the middle square that all coils have seen [pixel].
        centred: whether frequency zero lies in the middle of y, as for ``MultiCoil``.

    Raises:
        InputError: an odd number of channels, or a square that does not fit or holds nothing.
    """
    check_finite(y, "y")
    if y.ndim != 4 or not len(y) or y.shape[1] % 2:
        what = "sensitivities are estimated from data (images, 2 coils, h, w)"
        raise InputError(what, given=tuple(y.shape))
    h, w = y.shape[2:]
    if not 1 <= centre <= min(h, w):
        raise InputError(f"the middle must have 1 to {min(h, w)} pixels a side", given=centre)
    z = torch.complex(*y.chunk(2, 1))
    if not centred:
        z = cast(Tensor, torch.fft.fftshift(z, (-2, -1)))
    window = torch.zeros(h, w, dtype=y.dtype, device=y.device)
    taper = torch.hann_window(centre + 2, periodic=False, dtype=y.dtype, device=y.device)[1:-1]
    top, left = h // 2 - centre // 2, w // 2 - centre // 2
    window[top : top + centre, left : left + centre] = torch.outer(taper, taper)
    low = cast(Tensor, torch.fft.ifftshift(z * window, (-2, -1)))
    images = cast(Tensor, torch.fft.ifft2(low, norm="ortho"))
    if centred:
        images = cast(Tensor, torch.fft.fftshift(images, (-2, -1)))
    size = images.abs().square().sum((0, 1)).sqrt()
    if not bool(size.any()):
        raise InputError("the middle of k-space is zero", advice="check mask and layout")
    scale = size.clamp_min(1e-6 * float(size.max()))
    if len(y) == 1:
        return images[0] / scale
    found = _strongest(torch.einsum("knhw,kmhw->hwnm", images, images.conj()))
    overall = _strongest(torch.einsum("knhw,kmhw->nm", images, images.conj()))
    along = torch.einsum("n,hwn->hw", overall.conj(), found)
    turned = found.movedim(-1, 0) * torch.polar(torch.ones_like(size), -along.angle())
    return turned * (size / scale)


def _strongest(covariance: Tensor) -> Tensor:
    """The eigenvector of the largest eigenvalue, (..., n, n) -> (..., n)."""
    return cast(Tensor, torch.linalg.eigh(covariance).eigenvectors)[..., -1]
