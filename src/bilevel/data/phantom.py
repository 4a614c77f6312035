"""The Shepp-Logan head phantom."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground.errors import InputError

__all__ = ["shepp_logan"]

# Half axes, centre and angle [degree] of the ten ellipses on [-1, 1]², then both contrasts.
_ELLIPSES = (
    (0.69, 0.92, 0.0, 0.0, 0.0, 2.0, 1.0),
    (0.6624, 0.874, 0.0, -0.0184, 0.0, -0.98, -0.8),
    (0.11, 0.31, 0.22, 0.0, -18.0, -0.02, -0.2),
    (0.16, 0.41, -0.22, 0.0, 18.0, -0.02, -0.2),
    (0.21, 0.25, 0.0, 0.35, 0.0, 0.01, 0.1),
    (0.046, 0.046, 0.0, 0.1, 0.0, 0.01, 0.1),
    (0.046, 0.046, 0.0, -0.1, 0.0, 0.01, 0.1),
    (0.046, 0.023, -0.08, -0.605, 0.0, 0.01, 0.1),
    (0.023, 0.023, 0.0, -0.606, 0.0, 0.01, 0.1),
    (0.023, 0.046, 0.06, -0.605, 0.0, 0.01, 0.1),
)


def shepp_logan(size: int | tuple[int, int], *, modified: bool = True) -> Tensor:
    """The phantom (1, 1, h, w), float32, sampled at the centres of the pixels.

    With ``modified`` the contrast of Toft (1996), grey values in [0, 1]: skull 1, brain 0.2.
    Without it that of Shepp and Logan (1974), Table 1: skull 2, brain 1.02.

    Raises:
        InputError: a size below 1.

    Example:
        >>> round(float(shepp_logan(65)[0, 0, 32, 32]), 6)  # brain
        0.2
    """
    h, w = (size, size) if isinstance(size, int) else size
    if min(h, w) < 1:
        raise InputError("the phantom needs at least one pixel", given=(h, w))
    y = 1 - (2 * torch.arange(h, dtype=torch.float64)[:, None] + 1) / h
    x = (2 * torch.arange(w, dtype=torch.float64) + 1) / w - 1
    image = torch.zeros(h, w, dtype=torch.float64)
    for a, b, x0, y0, angle, original, toft in _ELLIPSES:
        phi = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
        along = (x - x0) * phi.cos() + (y - y0) * phi.sin()
        across = (y - y0) * phi.cos() - (x - x0) * phi.sin()
        inside = (along / a) ** 2 + (across / b) ** 2 <= 1
        image += (toft if modified else original) * inside.double()
    return image.clamp_min(0).float()[None, None]
