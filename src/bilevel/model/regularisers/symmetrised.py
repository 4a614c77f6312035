"""Differences of second order: the operators of total generalised variation and of its relatives.

D are the forward differences, zero across the last row and column. E takes a field w of row and
column parts to its symmetrised differences

    E w = (B₁w₁, B₂w₂, (B₂w₁ + B₁w₂)/√2),   B = -Dᵀ without the first and the last row or column

of each entry (the mixed one without all four borders): the slopes of an affine image, which D sets
to 0 across the border, then have E w = 0. The √2 makes the Euclidean length of E w that of the
symmetric matrix, and the adjoint the transpose.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from bilevel.ground.errors import InputError
from bilevel.model.operators import Differences
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = ["Bends", "Curves", "Parting", "Slopes"]

DIFFERENCES = Differences()
ROOT = math.sqrt(0.5)


def symmetrised(w: Tensor) -> Tensor:
    """E w: (b, 2c, h, w) -> (b, 3c, h, w), rows, columns, then the mixed entries."""
    w1, w2 = w.chunk(2, dim=1)
    mixed = w1[..., 1:-1, 1:-1] - w1[..., 1:-1, :-2] + w2[..., 1:-1, 1:-1] - w2[..., :-2, 1:-1]
    if torch.compiler.is_compiling():
        down = pad(w1[..., 1:-1, :] - w1[..., :-2, :], (0, 0, 1, 1))
        right = pad(w2[..., 1:-1] - w2[..., :-2], (1, 1))
        return torch.cat([down, right, pad(ROOT * mixed, (1, 1, 1, 1))], 1)
    c = w1.shape[1]
    e = w.new_zeros(len(w), 3 * c, *w.shape[2:])
    e[:, :c, 1:-1] = w1[..., 1:-1, :] - w1[..., :-2, :]
    e[:, c : 2 * c, :, 1:-1] = w2[..., 1:-1] - w2[..., :-2]
    e[:, 2 * c :, 1:-1, 1:-1] = ROOT * mixed
    return e


def symmetrised_adjoint(q: Tensor) -> Tensor:
    """Eᵀ q: (b, 3c, h, w) -> (b, 2c, h, w)."""
    down, right, mixed = q.chunk(3, dim=1)
    inner = ROOT * mixed[..., 1:-1, 1:-1]
    down, right = down[..., 1:-1, :], right[..., 1:-1]
    if torch.compiler.is_compiling():
        w1 = pad(down, (0, 0, 1, 1)) - pad(down, (0, 0, 0, 2))
        w1 = w1 + pad(inner, (1, 1, 1, 1)) - pad(inner, (0, 2, 1, 1))
        w2 = pad(right, (1, 1)) - pad(right, (0, 2))
        return torch.cat([w1, w2 + pad(inner, (1, 1, 1, 1)) - pad(inner, (1, 1, 0, 2))], 1)
    c = mixed.shape[1]
    w = q.new_zeros(len(q), 2 * c, *q.shape[2:])
    w1, w2 = w[:, :c], w[:, c:]
    w1[..., 1:-1, :] += down
    w1[..., :-2, :] -= down
    w1[..., 1:-1, 1:-1] += inner
    w1[..., 1:-1, :-2] -= inner
    w2[..., 1:-1] += right
    w2[..., :-2] -= right
    w2[..., 1:-1, 1:-1] += inner
    w2[..., :-2, 1:-1] -= inner
    return w


class _OfState(Operator):
    """Of states of ``wide`` channels for each of the image, with ``parts`` channels of data."""

    pure = True
    wide: int
    parts: int

    @property
    def roundings(self) -> float:
        """A few sums and differences."""
        return 4.0

    def image_shape(self, data_shape: Shape) -> Shape:
        """That of the state."""
        if data_shape[0] % self.parts:
            what = f"data of {type(self).__name__} have a multiple of {self.parts} channels"
            raise InputError(what, given=data_shape)
        return data_shape[0] // self.parts * self.wide, *data_shape[1:]

    def data_shape(self, image_shape: Shape) -> Shape:
        """So many channels for each of the image."""
        if image_shape[0] % self.wide:
            what = f"states of {type(self).__name__} have a multiple of {self.wide} channels"
            raise InputError(what, given=image_shape)
        return image_shape[0] // self.wide * self.parts, *image_shape[1:]


def norm_of_differences(shape: Shape) -> float:
    """‖D‖², at most 8, on images of that size; ‖E‖² is at most as large.

    ‖E w‖ <= ‖B w‖, the length of a matrix being at least that of its symmetric part, and the rows
    of B that are left are those of D on each part of w.
    """
    return DIFFERENCES.gram_bounds(shape).upper


class Slopes(_OfState):
    """D u - w of states (u, w).

    Example:
        >>> ramp = torch.arange(3.0).expand(1, 1, 3, 3)
        >>> state = torch.cat([ramp, 0 * ramp, 1 + 0 * ramp], 1)
        >>> Slopes()(state)[0, 1, 0]
        tensor([ 0.,  0., -1.])
    """

    wide, parts = 3, 2

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3c, h, w) -> (b, 2c, h, w)."""
        c = x.shape[1] // 3
        return DIFFERENCES(x[:, :c]) - x[:, c:]

    def adjoint(self, y: Tensor) -> Tensor:
        """(b, 2c, h, w) -> (b, 3c, h, w)."""
        return torch.cat([DIFFERENCES.adjoint(y), -y], 1)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """[0, 1 + ‖D‖²], exact: (D, -I)(D, -I)ᵀ = D Dᵀ + I."""
        return Interval(0.0, 1 + norm_of_differences(image_shape))


class Bends(_OfState):
    """E w of states (u, w)."""

    wide, parts = 3, 3

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3c, h, w) -> (b, 3c, h, w)."""
        return symmetrised(x[:, x.shape[1] // 3 :])

    def adjoint(self, y: Tensor) -> Tensor:
        """(b, 3c, h, w) -> (b, 3c, h, w)."""
        return torch.cat([torch.zeros_like(y[:, : y.shape[1] // 3]), symmetrised_adjoint(y)], 1)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """[0, ‖D‖²]."""
        return Interval(0.0, norm_of_differences(image_shape))


class Parting(_OfState):
    """D (u - v) of states (u, v)."""

    wide, parts = 2, 2

    def forward(self, x: Tensor) -> Tensor:
        """(b, 2c, h, w) -> (b, 2c, h, w)."""
        u, v = x.chunk(2, dim=1)
        return DIFFERENCES(u - v)

    def adjoint(self, y: Tensor) -> Tensor:
        """(b, 2c, h, w) -> (b, 2c, h, w)."""
        pull = DIFFERENCES.adjoint(y)
        return torch.cat([pull, -pull], 1)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """[0, 2 ‖D‖²], exact."""
        return Interval(0.0, 2 * norm_of_differences(image_shape))


class Curves(_OfState):
    """E D v, the second differences, of states (u, v)."""

    wide, parts = 2, 3

    def forward(self, x: Tensor) -> Tensor:
        """(b, 2c, h, w) -> (b, 3c, h, w)."""
        return symmetrised(DIFFERENCES(x[:, x.shape[1] // 2 :]))

    def adjoint(self, y: Tensor) -> Tensor:
        """(b, 3c, h, w) -> (b, 2c, h, w)."""
        pull = DIFFERENCES.adjoint(symmetrised_adjoint(y))
        return torch.cat([torch.zeros_like(pull), pull], 1)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """[0, ‖D‖⁴]."""
        return Interval(0.0, norm_of_differences(image_shape) ** 2)
