"""Blur, then keep every so-many-th pixel: super-resolution."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from bilevel.ground.errors import InputError
from bilevel.model.operators.convolution import Convolution
from bilevel.model.operators.derived import Derived
from bilevel.model.operators.inputs import check_adjoint, check_forward
from bilevel.model.operators.operator import Interval, Operator, Shape
from bilevel.model.operators.spectra import interval, power
from bilevel.model.part import accounted_under

__all__ = ["Downsampling"]


class Downsampling(Operator):
    """Means of blocks of pixels, or another kernel: super-resolution.

    A x = (k * x) at every ``factor``-th pixel of each axis, with a circular convolution.

    The first pixel kept is (factor - 1) // 2, so that the default kernel, the box average, gives
    the means of the factor x factor blocks of the image.

    Args:
        factor: an integer >= 1 for both axes, or (rows, columns); they must divide the height and
            the width of the image.
        kernel: (kh, kw) or (c, kh, kw), as for ``Convolution``; by default the box average.
        learn: ``("kernel",)`` to learn the kernel, from the one given.

    Raises:
        InputError: a factor below 1 or not an integer, or what ``Convolution`` refuses.

    Example:
        >>> Downsampling(2)(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))
        tensor([[[[3.]]]])
        >>> Downsampling((1, 2))(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))
        tensor([[[[1.5000],
                  [4.5000]]]])
    """

    def __init__(
        self,
        factor: int | tuple[int, int],
        kernel: Tensor | None = None,
        *,
        learn: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.factors = _factors(factor)
        box = torch.full(self.factors, 1 / (self.factors[0] * self.factors[1]))
        self.blur = Convolution(box if kernel is None else kernel, "circular", learn=learn)
        self._derived = Derived()

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, c, h / factor, w / factor)."""
        check_forward(self, x, self.blur.kernel)
        rows, columns = (slice((f - 1) // 2, None, f) for f in self.factors)
        return self.blur.forward(x)[..., rows, columns]

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, c, h / factor, w / factor) -> (b, c, h, w)."""
        check_adjoint(self, y, self.blur.kernel)
        (above, below), (left, right) = (((f - 1) // 2, f // 2) for f in self.factors)
        blocks = functional.pad(y[..., None, :, None], (left, right, 0, 0, above, below))
        c, h, w = self.image_shape((y.shape[1], y.shape[2], y.shape[3]))
        return self.blur.adjoint(blocks.reshape(len(y), c, h, w))

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Exact: AAᵀ is circulant on the coarse grid, with the mean of |k̂|² over the aliases."""
        self.data_shape(image_shape)
        kernel = self.blur.kernel
        return self._derived.get(kernel, image_shape, lambda: self._gram_bounds(image_shape))

    def _gram_bounds(self, image_shape: Shape) -> Interval:
        _, h, w = image_shape
        (down, across), kernel = self.factors, self.blur.kernel
        aliases = power(kernel, (h, w)).reshape(-1, down, h // down, across, w // across)
        modulus = aliases.mean((1, 3)).sqrt()
        smallest = modulus.min() if self.factors == (1, 1) else torch.zeros(())
        return interval(smallest, modulus.max(), kernel)

    def sensitivity(self, image_shape: Shape) -> float:
        """That of the blur."""
        return self.blur.sensitivity(image_shape)

    def accounted(self) -> frozenset[str]:
        """What the blur has."""
        return accounted_under("blur", self.blur)

    def gram_spectrum(self, image_shape: Shape) -> Tensor | None:
        """That of the blur if the factor is 1; otherwise None, since frequencies are mixed."""
        return self.blur.gram_spectrum(image_shape) if self.factors == (1, 1) else None

    def image_shape(self, data_shape: Shape) -> Shape:
        """(c, factor h, factor w) for data (c, h, w)."""
        c, h, w = data_shape
        return (c, h * self.factors[0], w * self.factors[1])

    def data_shape(self, image_shape: Shape) -> Shape:
        """(c, h / factor, w / factor); raises InputError unless the factor divides both."""
        c, h, w = self.blur.data_shape(image_shape)
        down, across = self.factors
        if h % down or w % across:
            factor = f"factor {down}" if down == across else f"factors {down} and {across}"
            what = f"height and width must be multiples of the {factor}"
            raise InputError(what, given=f"an image of {h}x{w}", advice="crop the image")
        return (c, h // down, w // across)

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        blur = self.blur.options()
        return {"factor": self.factors, "kernel": blur["kernel"], "learn": blur["learn"]}


def _factors(given: object) -> tuple[int, int]:
    match given:
        case [object() as down, object() as across]:
            return _factor(down), _factor(across)
        case _:
            return _factor(given), _factor(given)


def _factor(given: object) -> int:
    if given not in range(1, 2**15):
        raise InputError("factor must be an integer >= 1, or two", given=given)
    return int(cast(int, given))
