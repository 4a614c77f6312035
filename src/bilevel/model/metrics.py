"""Symmetric positive definite 2x2 matrices, one a pixel, as exponentials of symmetric ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Metric"]

_NEAR = 1e-2


@dataclass(frozen=True)
class Metric:
    """M = exp [[b + c, s], [s, b - c]] = e^b (cosh r I + sinh r/r [[c, s], [s, -c]]), r² = c² + s².

    The eigenvalues are e^(b ± r), the larger one in the direction ½ atan2(s, c) from the first
    axis. Smooth in (b, c, s), at c = s = 0 too; every M is reached, once.

    Args:
        b: half the logarithm of the determinant [1].
        c: the cosine of twice the angle times r [1].
        s: the sine of twice the angle times r [1].

    Example:
        >>> Metric(*(torch.tensor(v) for v in (0.0, 0.0, 0.0))).entries()
        (tensor(1.), tensor(0.), tensor(1.))
    """

    b: Tensor
    c: Tensor
    s: Tensor

    @property
    def square(self) -> Tensor:
        """r²."""
        return self.c.square() + self.s.square()

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """The diagonal's first entry, the entry off the diagonal, the diagonal's second."""
        size, square = self.b.exp(), self.square
        even, odd = size * _cosh(square), size * _sinhc(square)
        return even + odd * self.c, odd * self.s, even - odd * self.c

    def power(self, exponent: float) -> Metric:
        """M^exponent."""
        return Metric(exponent * self.b, exponent * self.c, exponent * self.s)

    def largest(self) -> Tensor:
        """The larger eigenvalue."""
        return (self.b + self.square.sqrt()).exp()

    def shear(self) -> Tensor:
        """sinh r/r: bounds ‖M^(-1/2) ∂M M^(-1/2)‖ for the derivatives of M by b, c and s.

        In the eigenbasis of M, ∂M by c or s is [[cos φ, k sin φ], [k sin φ, -cos φ]] between
        M^(1/2) and M^(1/2), where k = sinh r/r (the divided differences of exp); by b it is I.
        """
        return _sinhc(self.square)


def _cosh(t: Tensor) -> Tensor:
    """cosh √t, smooth at 0."""
    root = torch.where(t < _NEAR, 1.0, t).sqrt()
    return torch.where(t < _NEAR, _series(t, (2, 12, 30, 56)), root.cosh())


def _sinhc(t: Tensor) -> Tensor:
    """sinh √t/√t, smooth at 0."""
    root = torch.where(t < _NEAR, 1.0, t).sqrt()
    return torch.where(t < _NEAR, _series(t, (6, 20, 42, 72)), root.sinh() / root)


def _series(t: Tensor, ratios: tuple[int, ...]) -> Tensor:
    """1 + t/r₁ (1 + t/r₂ (1 + ...))."""
    total = torch.ones_like(t)
    for ratio in reversed(ratios):
        total = 1 + t / ratio * total
    return total
