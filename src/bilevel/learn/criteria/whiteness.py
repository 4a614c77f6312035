"""Residuals as white as noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.learn.criteria.criterion import Criterion, DataLoss, Prepared
from bilevel.model import Variational
from bilevel.model.fidelities import KullbackLeibler, SquaredL2

__all__ = ["Whiteness"]


@dataclass(frozen=True)
class Whiteness(Criterion):
    """W = N Σ|r̂|⁴/(Σ|r̂|²)², r̂ the 2-D DFT of the N residuals r = A x - y, their mean included.

    W is 1 for a flat spectrum and about 2 for white Gaussian noise (residual whiteness principle,
    Lanza, Pragliola, Sgallari 2020). It needs no noise level, nor the peak of counts, whose
    residuals are divided by √(A x + background). Maps of weights can make residuals whiter than
    noise is and then fit the noise (arXiv 2503.07814): learning ends where the mean of W is down
    to ``stop``, with ``Status.REACHED``, for every algorithm that looks at all samples at once;
    running means of batches are no such look.

    Args:
        stop: least W sought [1]; None: learn to the end.

    Raises:
        InputError: a ``stop`` that is not positive; later another fidelity than SquaredL2 or
            KullbackLeibler.

    Example:
        >>> Whiteness().reached(1.9)
        True
    """

    stop: float | None = 2.0

    def __post_init__(self) -> None:
        """Check the option."""
        if self.stop is not None:
            check_positive(self.stop, "stop")

    def prepare(self, energy: Variational, y: Tensor) -> Prepared:
        """The data themselves."""
        fidelity = energy.fidelity
        if not isinstance(fidelity, SquaredL2 | KullbackLeibler):
            what = "whiteness assumes Gaussian or Poisson noise, SquaredL2 or KullbackLeibler"
            raise InputError(what, given=type(fidelity).__name__)
        background = fidelity.background if isinstance(fidelity, KullbackLeibler) else None
        return Prepared(energy, y, _Spectrum(y, background), ("",))

    def reached(self, value: float) -> bool:
        """Whether residuals are as white as noise."""
        return self.stop is not None and value <= self.stop


@dataclass(frozen=True)
class _Spectrum(DataLoss):
    """W of v - y, standardised for counts of that background."""

    y: Tensor
    background: float | None

    def value(self, v: Tensor) -> Tensor:
        """W."""
        residual = v - self.y
        if self.background is not None:
            residual = residual / (v + self.background).clamp_min(self.background).sqrt()
        spectrum = cast(Tensor, torch.fft.fft2(residual))
        power = (spectrum.real.square() + spectrum.imag.square()).flatten(1)
        return power.shape[1] * power.square().sum(1) / power.sum(1).square()

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
