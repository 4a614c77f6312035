"""Convolution with a kernel, known or learned: deblurring."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from torch import Tensor, nn

from bilevel.ground.errors import InputError
from bilevel.model.operators.boundary import Boundary
from bilevel.model.operators.filtering import Filtering
from bilevel.model.operators.inputs import real_tensor
from bilevel.model.part import check_learn
from bilevel.model.sets import Set, Simplex

__all__ = ["Convolution"]


class Convolution(Filtering):
    """Blur with a known kernel: deblurring.

    A x = k * x, true convolution with the size of the image: (k * x)[i] = Σ_j k[j] x[i - j + s].

    The centre of the kernel is s = size // 2 along each axis. Beyond its ends the image is
    periodic, zero, or reflected half a pixel outside (d c b a | a b c d); or nothing is assumed
    ("valid"): the data are those that see nothing beyond, (h - kh + 1, w - kw + 1) of them, as in
    a photograph. Computed by FFT on a grid that avoids slow lengths, which beats a direct sum
    already for 5x5.

    Args:
        kernel: (kh, kw) for all channels or (c, kh, kw), one a channel; not larger than the image.
        boundary: "circular", "zero", "reflecting" or "valid".
        learn: ``("kernel",)`` to learn the kernel, from the one given.
        simplex: whether what is learned stays a blur: not negative, with the sum it has now.

    Raises:
        InputError: a kernel that is complex, not finite or empty, or that requires a gradient,
            an unknown boundary or name in ``learn``, or a simplex for a kernel with negative
            entries or one a channel.

    Example:
        >>> import torch
        >>> operator = Convolution(torch.full((3, 3), 1 / 9), boundary="reflecting")
        >>> operator(torch.ones(1, 1, 8, 9)).allclose(torch.ones(1, 1, 8, 9))
        True
    """

    kernel: Tensor

    def __init__(
        self,
        kernel: Tensor,
        boundary: Boundary = "circular",
        *,
        learn: Collection[str] = (),
        simplex: bool = False,
    ) -> None:
        check_learn(learn, ("kernel",))
        super().__init__(boundary)
        advice = "give kernel.detach() with learn=('kernel',), or hand it on as theta"
        values = real_tensor(kernel, "kernel", (2, 3), advice)
        if simplex and (values.ndim == 3 or float(values.min()) < 0 or not values.any()):
            what = "a kernel on the simplex is one for all channels, not negative and not zero"
            raise InputError(what, given=f"{tuple(values.shape)} from {float(values.min()):.4g}")
        self.simplex = simplex
        self.shape = tuple(values.shape)
        self.kernel = nn.Parameter(values, requires_grad="kernel" in learn)

    @property
    def source(self) -> Tensor:
        """The kernel."""
        return self.kernel

    def taps(self) -> Tensor:
        """The kernel."""
        return self.kernel

    def slope(self) -> float:
        """√taps, by the Cauchy-Schwarz inequality."""
        return math.sqrt(self.shape[-2] * self.shape[-1]) if self.kernel.requires_grad else 0.0

    def sets(self) -> Mapping[str, Set]:
        """The simplex, if asked for."""
        return {"kernel": Simplex(float(self.kernel.detach().sum()))} if self.simplex else {}

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        learn = ("kernel",) if self.kernel.requires_grad else ()
        kept = {"kernel": self.kernel.detach(), "boundary": self.boundary, "learn": learn}
        return {**kept, "simplex": self.simplex}
