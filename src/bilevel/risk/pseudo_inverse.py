"""Truncated or regularised inverses of operators: data to the part of the image they tell of."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap, cg
from bilevel.model.operators import Mask, Operator, Shape

__all__ = ["PseudoInverse"]

RTOL = 1e-6
"""Relative residual of the linear systems of an operator that is diagonal in no known basis."""


@dataclass(frozen=True)
class PseudoInverse:
    """L = g(AᵀA) Aᵀ with g(s) ≈ 1/s.

    Where AᵀA is diagonal in the Fourier basis or, for a mask, pixel by pixel: g(s) = 1/s for
    s > t² max(s), else 0. Elsewhere g(s) = 1/(s + t² ‖A‖²) by conjugate gradients, with the
    operator's upper bound of ‖A‖².

    Args:
        operator: A.
        image_shape: (c, h, w).
        truncation: t [1], of singular values in comparison with the largest.

    Raises:
        InputError: diagonal in no known basis, and no bound of the norm.

    Example:
        >>> inverse = PseudoInverse(Mask(torch.tensor([[2.0, 0.01]])), (1, 1, 2), 0.1)
        >>> inverse(torch.ones(1, 1, 1, 2))
        tensor([[[[0.5000, 0.0000]]]])
    """

    operator: Operator
    image_shape: Shape
    truncation: float

    def __post_init__(self) -> None:
        """An operator that is diagonal in no known basis needs a bound of its norm."""
        if self._eigenvalues is None and not math.isfinite(self._ridge):
            what = "GSURE needs a bound of the norm of the operator, and none is known"
            advice = "give it one (`norm`, `gram_bounds`), or take a rule that needs none"
            raise InputError(what, given=type(self.operator).__name__, advice=advice)

    def __call__(self, y: Tensor) -> Tensor:
        """L y: (b, c', h', w') -> (b, c, h, w)."""
        return self._inverse(self.operator.adjoint(y))

    def adjoint(self, x: Tensor) -> Tensor:
        """Lᵀ x = A g(AᵀA) x: (b, c, h, w) -> (b, c', h', w')."""
        return self.operator(self._inverse(x))

    def double(self) -> PseudoInverse:
        """The same in float64."""
        return replace(self, operator=copy.deepcopy(self.operator).double())

    def square_bound(self) -> float:
        """An upper bound of ‖L‖²."""
        s = self._eigenvalues
        return 1 / (4 * self._ridge) if s is None else 1 / float(s[self._inverted(s) > 0].min())

    def energy(self) -> Tensor | None:
        """tr LLᵀ, () float64; None where no basis is known."""
        s = self._eigenvalues
        return None if s is None else (self._inverted(s).square() * s).sum()

    @cached_property
    def _eigenvalues(self) -> Tensor | None:
        """Of AᵀA, (c, h, w) float64."""
        if isinstance(self.operator, Mask):
            return self.operator.mask.double().square().expand(self.image_shape)
        spectrum = self.operator.gram_spectrum(self.image_shape)
        return None if spectrum is None else spectrum.expand(self.image_shape)

    @property
    def _ridge(self) -> float:
        """t² ‖A‖²."""
        return self.truncation**2 * self.operator.gram_bounds(self.image_shape).upper

    def _inverse(self, x: Tensor) -> Tensor:
        """g(AᵀA) x."""
        s = self._eigenvalues
        if s is None:
            ridge = self._ridge
            gram = LinearMap.shared(lambda v: self.operator.adjoint(self.operator(v)) + ridge * v)
            return cg(gram, x, rtol=RTOL).x
        if isinstance(self.operator, Mask):
            return self._inverted(s).to(x) * x
        z = self._inverted(s).to(x) * cast(Tensor, torch.fft.fft2(x))
        return cast(Tensor, torch.fft.ifft2(z)).real

    def _inverted(self, s: Tensor) -> Tensor:
        kept = s > self.truncation**2 * s.max()
        return torch.where(kept, 1 / s, 0.0)
