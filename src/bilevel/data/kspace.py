"""What k-space tells of itself: where it was sampled, and where its frequency zero lies."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from bilevel.ground.errors import InputError

__all__ = ["centred_mask", "contradiction", "sampled", "suspected"]

_NEAR = 16
"""The peak lies near frequency zero within one of so many parts of a side."""


def sampled(y: Tensor, *, centred: bool) -> Tensor:
    """Where data (b, 2N, h, w) of N coils were taken, (h, w) bool: what is 0 in all was not.

    Args:
        y: real parts of all coils, then imaginary parts.
        centred: whether frequency zero is said to lie in the middle, at (h // 2, w // 2).

    Raises:
        InputError: real numbers, no data at all, rows that were sampled differently, or a peak
            where frequency zero lies in the other convention.

    Example:
        >>> y = torch.zeros(1, 2, 4, 4)
        >>> y[..., 0] = 1.0
        >>> sampled(y, centred=False).sum()
        tensor(4)
    """
    if y.shape[1] % 2:
        advice = "save real and imaginary part as one array of complex numbers; "
        advice += "`bilevel reconstruct` takes sharp images with --simulate"
        given = f"{y.shape[1]} real channel{'' if y.shape[1] == 1 else 's'}"
        raise InputError("Fourier data are complex", given=given, advice=advice)
    seen = (y != 0).any(1)
    if not bool(seen.any()):
        raise InputError("k-space is 0 everywhere")
    if bool((seen != seen[0]).any()):
        k = int((seen != seen[0]).flatten(1).any(1).nonzero()[0])
        what = f"data number {k + 1} of one size was sampled at other places than the first"
        raise InputError(what, advice="take those of one sampling pattern at a time")
    _check_centre(y, centred)
    return seen[0]


def suspected(y: Tensor) -> bool:
    """Whether complex data (b, 2N, h, w) have whole lines of zeros between others."""
    if y.shape[1] % 2:
        return False
    seen = (y != 0).any(1).any(0)
    return any(0.1 < float((~lines).double().mean()) < 1 for lines in (seen.any(0), seen.any(1)))


def contradiction(y: Tensor) -> float:
    """How far data (b, 2, h, w), frequency zero first, are from those of real images [1].

    Those have y(-k) = conj y(k). Of the data k of which -k was sampled, too: the part of their
    energy that differs, 0 for real images, 2 in the mean for noise alone.

    Example:
        >>> k = torch.fft.fft2(torch.arange(16.0).view(1, 1, 4, 4) * 1j)
        >>> round(contradiction(torch.cat([k.real, k.imag], 1)), 3)
        4.0
    """
    z = torch.complex(*y.double().chunk(2, 1))
    mirrored = z.flip(2, 3).roll((1, 1), (2, 3)).conj()
    both = (z != 0) & (mirrored != 0)
    energy = float((both * z).abs().square().sum())
    return float((both * (z - mirrored)).abs().square().sum()) / energy if energy else 0.0


def centred_mask(mask: Tensor) -> Tensor:
    """A mask (h, w) whose frequency zero is first, with that in the middle."""
    return cast(Tensor, torch.fft.fftshift(mask))


def _check_centre(y: Tensor, centred: bool) -> None:
    """The largest datum is that of frequency zero, or near it, for nearly every image."""
    h, w = y.shape[2:]
    power = y.double().square().sum((0, 1))
    row, column = divmod(int(power.argmax()), w)
    middle = _near(row - h // 2, h) and _near(column - w // 2, w)
    first = _near(row, h) and _near(column, w)
    if (middle and not first and not centred) or (first and not middle and centred):
        where = "in the middle" if middle else "first"
        said = "first, as centred = false says" if middle else "in the middle, as centred says"
        what = f"the largest value of k-space lies {where}, at ({row}, {column})"
        advice = f"set centred = {'true' if middle else 'false'} in [operator]"
        raise InputError(what, given=f"frequency zero {said}", advice=advice)


def _near(distance: int, side: int) -> bool:
    """Whether a place lies near another one on a circle."""
    around = distance % side
    return min(around, side - around) <= side // _NEAR
