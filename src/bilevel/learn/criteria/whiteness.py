"""Residuals as white as noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.learn.criteria.criterion import Criterion, DataLoss, Prepared
from bilevel.model import Variational
from bilevel.risk.held import reached
from bilevel.risk.noise import background_of
from bilevel.risk.spectrum import PATCH, check_patch, of_data

__all__ = ["Whiteness"]


SHARE = 0.02
"""Of W, that changes by little when residuals change by much."""


@dataclass(frozen=True)
class Whiteness(Criterion):
    """:func:`~bilevel.risk.spectrum.whiteness` W of the residuals A x - y.

    W is 1 for a flat spectrum and about 2 for white Gaussian noise (residual whiteness principle,
    Lanza, Pragliola, Sgallari 2020). It needs no noise level, nor the peak of counts, whose
    residuals are divided by √(A x + background). Maps of weights can make residuals whiter than
    noise is and then fit the noise (arXiv 2503.07814): learning ends where the mean of W is down
    to ``stop``, with ``Status.REACHED``, for every algorithm that looks at all samples at once.
    Running means of batches are no such look; with an algorithm that has no other, such as SOBA,
    ``stop`` is not seen, and the number of steps must be kept small.

    Args:
        stop: least W sought [1]; None: learn to the end.
        patch: side of the squares in which residuals are looked at; None: the whole image.

    Raises:
        InputError: a ``stop`` that is not positive, a patch of less than 2 pixels; later another
            fidelity than SquaredL2 or KullbackLeibler.

    Example:
        >>> Whiteness().reached(1.9)
        True
    """

    stop: float | None = 2.0
    patch: int | None = PATCH

    def __post_init__(self) -> None:
        """Check the options."""
        if self.stop is not None:
            check_positive(self.stop, "stop")
        check_patch(self.patch)

    def prepare(self, energy: Variational, y: Tensor) -> Prepared:
        """The data themselves."""
        background = background_of("whiteness", energy)
        loss = _Spectrum(y, reached(energy, y), background, self.patch)
        return Prepared(energy, y, loss, ("",))

    def scale(self, value: float) -> float:
        """A part of W: the noise alone makes for nearly all of it."""
        return SHARE * value

    def reached(self, value: float) -> bool:
        """Whether residuals are as white as noise."""
        return self.stop is not None and value <= self.stop


@dataclass(frozen=True)
class _Spectrum(DataLoss):
    """W of v - y where that is seen, standardised for counts of that background.

    Where all residuals vanish, W is the number of data of a patch, the most there is.
    """

    y: Tensor
    seen: Tensor
    background: float | None
    patch: int | None

    def value(self, v: Tensor) -> Tensor:
        """W."""
        residual = self.seen * (v - self.y)
        patch = residual[0] if self.patch is None else residual[0, :, : self.patch, : self.patch]
        return of_data(residual, v, self.background, self.patch).clamp_max(patch.numel()).to(v)

    def grad(self, v: Tensor) -> Tensor:
        """By autograd."""
        with torch.enable_grad():
            point = v.detach().requires_grad_()
            return torch.autograd.grad(self.value(point).sum(), point)[0]

    def lipschitz(self, v: Tensor, radius: Tensor) -> Tensor:
        """Not known."""
        del v
        return torch.full_like(radius, torch.inf, dtype=torch.float64)

    def rows(self, index: Tensor) -> _Spectrum:
        """Of the rows ``index``."""
        return replace(self, y=self.y[index])

    def double(self) -> _Spectrum:
        """The same in float64."""
        return replace(self, y=self.y.double())
