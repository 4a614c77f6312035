"""The contrast of images: the one unit that defaults in grey values are relative to."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.ground import rows

__all__ = ["contrast", "contrasts", "peak_of", "spread", "window_of"]

SHARE = 0.005
"""Of the pixels that are left out at either end, so that a few defects decide nothing."""
MOST = 2**18
"""Pixels of an image that are looked at, at most, evenly spread."""
DIM = 0.25
"""Images that stay below are shown brighter than they are: all would be black."""
DARK = 1 / 255
"""Targets in [0, 1] that stay below one step of eight bits are in other units."""


def contrasts(x: Tensor) -> Tensor:
    """The range of each row without its darkest and brightest 0.5 %: (b, ...) -> (b,) float64.

    About 1 for pictures with grey values in [0, 1]. It is c times as large for c x and the same
    for x + c. Where it vanishes, the whole range; of constant rows 0.

    Example:
        >>> x = torch.linspace(-1000.0, 3000.0, 1001)[None]
        >>> contrasts(x), contrasts(1e-6 * x + 1)
        (tensor([3960.], dtype=torch.float64), tensor([0.0040], dtype=torch.float64))
    """
    flat = x.detach().flatten(1)
    flat = flat[:, :: -(-flat.shape[1] // MOST)]
    out, count = round(SHARE * flat.shape[1]), flat.shape[1]
    low, high = (flat.kthvalue(place, 1).values for place in (out + 1, count - out))
    kept = (high - low).double()
    return torch.where(kept > 0, kept, (flat.amax(1) - flat.amin(1)).double())


def contrast(*x: Tensor) -> float:
    """The median of :func:`contrasts` over the rows that have any, of images of one size or more.

    Without any, the largest size of x; 1 if x is 0.

    Example:
        >>> contrast(torch.full((1, 1, 8, 8), 7.0)), contrast(torch.zeros(1, 1, 8, 8))
        (7.0, 1.0)
    """
    found = torch.cat([contrasts(part) for part in x])
    seen = found[found > 0]
    if len(seen):
        return float(seen.median())
    return max(float(part.detach().abs().max()) for part in x) or 1.0


def spread(x: Tensor) -> Tensor:
    """Rms of what differs from the mean of each row: (b, ...) -> (b,), cheaper than contrasts."""
    return rows.rms(x - rows.expand(x.flatten(1).mean(1), x))


def peak_of(target: Tensor) -> float:
    """The grey value that PSNR and SSIM take for white, where none is given.

    1 for targets in [0, 1]; otherwise, and where no target reaches 1/255, the range from the least
    to the greatest value of all; 1 if that is 0.

    Example:
        >>> unit = torch.tensor([0.1, 0.8])
        >>> peak_of(unit), peak_of(torch.tensor([-1000.0, 3000.0])), peak_of(torch.zeros(2))
        (1.0, 4000.0, 1.0)
    """
    low, high = float(target.detach().min()), float(target.detach().max())
    if (low >= 0 and DARK <= high <= 1) or high == low:
        return 1.0
    return high - low


def window_of(images: Tensor) -> tuple[float, float]:
    """The grey values shown as black and white.

    0 and 1 for images in [0, 1] that are not all in the dark; otherwise their range.

    Example:
        >>> window_of(torch.tensor([0.1, 0.8])), window_of(torch.tensor([0.0, 255.0]))
        ((0.0, 1.0), (0.0, 255.0))
        >>> window_of(torch.tensor([0.0, 0.0625]))
        (0.0, 0.0625)
    """
    low, high = float(images.detach().min()), float(images.detach().max())
    if (low >= 0 and DIM <= high <= 1) or high == low == 0:
        return 0.0, 1.0
    return (low, high) if low < high else (low - 0.5, low + 0.5)
