"""Total variation as a stencil: gradient, value and Hessian in one pass over a surrounded image.

Surrounded by copies of its border, an image has forward differences that vanish across the border
by themselves. On the grid of (h + 1) x (w + 1) differences that start one row above and one column
to the left, no index needs a condition, which is what makes the compiled loops fast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from bilevel.ground.fused import fused
from bilevel.model.potentials import EvenFunction

__all__ = ["Curvature", "curvature", "gradient", "hessian_product", "value_and_gradient"]

Curvature = tuple[Tensor, Tensor, Tensor]
"""The symmetric 2x2 matrix at every place of the grid: its diagonal, then the other entry."""


def gradient(
    x: Tensor,
    weight: Tensor,
    smoothing: Tensor,
    potential: EvenFunction,
    isotropic: bool,
    coupled: bool,
) -> Tensor:
    """Dᵀ(w φ'(D x)), φ_ν(t) = ν ψ(|t|/ν)."""
    return _gradient(_surrounded(x), _on_grid(weight), smoothing, potential, isotropic, coupled)


def value_and_gradient(
    x: Tensor,
    weight: Tensor,
    smoothing: Tensor,
    potential: EvenFunction,
    isotropic: bool,
    coupled: bool,
) -> tuple[Tensor, Tensor]:
    """Σ w φ(D x), (b,), and its gradient."""
    grid, w = _surrounded(x), _on_grid(weight)
    return _value_and_gradient(grid, w, smoothing, potential, isotropic, coupled)


def curvature(
    x: Tensor, weight: Tensor, smoothing: Tensor, potential: EvenFunction, isotropic: bool
) -> Curvature:
    """w ∇²φ(D x): ψ'(s)/s across t = D x and ψ''(s) along it, over ν; s = |t|/ν.

    Of channels that are penalised one by one.
    """
    return _curvature(_surrounded(x), _on_grid(weight), smoothing, potential, isotropic)


def hessian_product(v: Tensor, curve: Curvature) -> Tensor:
    """Dᵀ C D v."""
    return _hessian_product(_surrounded(v), *curve)


def _surrounded(x: Tensor) -> Tensor:
    """What is compiled copies blocks side by side; its padding would go index by index."""
    if not torch.compiler.is_compiling():
        return pad(x, (1, 1, 1, 1), mode="replicate")
    x = torch.cat([x[..., :1, :], x, x[..., -1:, :]], -2)
    return torch.cat([x[..., :1], x, x[..., -1:]], -1)


def _on_grid(weight: Tensor) -> Tensor:
    """A number, or a map with any row above and column to the left: nothing is there.

    Shapes are (), (h, w), or those of rows, (b, 1, 1, 1) and (b, 1, h, w).
    """
    if weight.ndim == 0 or weight.shape[-2:] == (1, 1):
        return weight
    wide = weight if weight.ndim == 4 else weight[None]
    grown = pad(wide, (1, 0, 1, 0), mode="replicate")
    return grown if weight.ndim == 4 else grown[0]


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    here = x[..., :-1, :-1]
    return x[..., 1:, :-1] - here, x[..., :-1, 1:] - here


def _gathered(p: Tensor, q: Tensor) -> Tensor:
    """Dᵀ of fields on the grid."""
    vertical = p[..., :-1, 1:] - p[..., 1:, 1:]
    return vertical + q[..., 1:, :-1] - q[..., 1:, 1:]


def _squares(
    down: Tensor, right: Tensor, smoothing: Tensor, isotropic: bool, coupled: bool
) -> tuple[Tensor, Tensor]:
    """(|t|/ν)² of what is penalised together, in one channel where all are ``coupled``."""
    scale = smoothing.square().reciprocal()
    if not isotropic:
        return scale * down * down, scale * right * right
    square = scale * (down * down + right * right)
    if coupled:
        square = square.sum(1, keepdim=True)
    return square, square


def _pulled(
    scale: Tensor,
    potential: EvenFunction,
    down: Tensor,
    right: Tensor,
    first: Tensor,
    second: Tensor,
) -> Tensor:
    """Dᵀ of the forces."""
    p = scale * potential.ratio_of_square(first) * down
    q = scale * potential.ratio_of_square(second) * right
    return _gathered(p, q)


@fused
def _gradient(
    x: Tensor,
    weight: Tensor,
    smoothing: Tensor,
    potential: EvenFunction,
    isotropic: bool,
    coupled: bool,
) -> Tensor:
    down, right = _differences(x)
    first, second = _squares(down, right, smoothing, isotropic, coupled)
    return _pulled(weight / smoothing, potential, down, right, first, second)


@fused
def _value_and_gradient(
    x: Tensor,
    weight: Tensor,
    smoothing: Tensor,
    potential: EvenFunction,
    isotropic: bool,
    coupled: bool,
) -> tuple[Tensor, Tensor]:
    down, right = _differences(x)
    first, second = _squares(down, right, smoothing, isotropic, coupled)
    penalty = potential.value_of_square(first)
    if not isotropic:
        penalty = penalty + potential.value_of_square(second)
    value = (weight * smoothing * penalty)[..., 1:, 1:].sum(-1).flatten(1).sum(1)
    return value, _pulled(weight / smoothing, potential, down, right, first, second)


@fused
def _curvature(
    x: Tensor, weight: Tensor, smoothing: Tensor, potential: EvenFunction, isotropic: bool
) -> Curvature:
    down, right = _differences(x)
    scale = weight / smoothing
    if not isotropic:
        below, beside = (scale * potential.curvature(t / smoothing) for t in (down, right))
        return below, beside, torch.zeros_like(below)
    size = (down * down + right * right).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
    across = scale * potential.ratio(size / smoothing)
    change = scale * potential.curvature(size / smoothing) - across
    n, m = down / size, right / size
    return across + change * n * n, across + change * m * m, change * n * m


@fused
def _hessian_product(v: Tensor, below: Tensor, beside: Tensor, mixed: Tensor) -> Tensor:
    down, right = _differences(v)
    return _gathered(below * down + mixed * right, mixed * down + beside * right)
