"""Σ_i w_i |(A x - c)_i|: the terms that a primal-dual method dualises."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.fused import differentiating, fused
from bilevel.model.operators.operator import Operator, Shape

__all__ = ["GroupNorm"]


@dataclass(frozen=True)
class GroupNorm:
    """F(A x) = Σ_i w_i |(A x - c)_i|, the data's channels in ``group`` parts of one vector each.

    ``group = 1``: absolute values; ``group = 2``: Euclidean lengths of (first half, second half)
    of the channels; None: of all channels. The dual variable p has the shape of A x and is
    feasible where |p_i| <= w_i; F*(p) = ⟨p, c⟩ there. ``weight`` w is a number (), a map (h, w), or
    has a value or a map for each row, (b, 1, 1, 1) or (b, 1, h, w); ``shift`` c is a number
    or has the rows of x.
    """

    operator: Operator
    weight: Tensor
    group: int | None = 1
    shift: Tensor | None = None

    @property
    def convex(self) -> bool:
        """Whether F is."""
        return True

    @property
    def homogeneous(self) -> bool:
        """Whether F(a t) = |a| F(t) but for the shift: the weights then bound the dual variable."""
        return True

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        return self.operator.forward(x)

    def adjoint(self, p: Tensor) -> Tensor:
        """Aᵀ p."""
        return self.operator.adjoint(p)

    def norm(self, image_shape: Shape) -> float:
        """A proved upper bound of ‖A‖."""
        return self.operator.gram_bounds(image_shape).upper ** 0.5

    def parts(self, s: Tensor) -> int:
        """How many channels of ``s`` make a vector."""
        return s.shape[1] if self.group is None else self.group

    def sizes(self, s: Tensor) -> Tensor:
        """|s_i|, (b, c, h, w)."""
        return _sizes(s, self.parts(s))

    def residual(self, t: Tensor) -> Tensor:
        """t - c."""
        return t if self.shift is None else t - self.shift

    def value(self, t: Tensor) -> Tensor:
        """F(t), (b,)."""
        return (self.weight * self.sizes(self.residual(t))).flatten(1).sum(1)

    def feasible(self, p: Tensor) -> Tensor:
        """The nearest p with |p_i| <= w_i."""
        return self._shrink(p.clone())

    def _shrink(self, p: Tensor) -> Tensor:
        """The same, writing into ``p`` unless a tape or tangents may be recorded."""
        if differentiating():
            return self._shrunk(p)
        if self.group == 1:
            return torch.minimum(p, self.weight, out=torch.maximum(p, -self.weight, out=p))
        scale = self.weight / torch.maximum(self.sizes(p), self.weight)
        p.unflatten(1, (self.parts(p), -1)).mul_(scale.unsqueeze(1))
        return p

    def _shrunk(self, p: Tensor) -> Tensor:
        if self.group == 1:
            return torch.minimum(torch.maximum(p, -self.weight), self.weight)
        square = torch.stack(p.square().chunk(self.parts(p), dim=1)).sum(0)
        scale = self.weight * torch.maximum(square, self.weight.square()).rsqrt()
        return p * scale.repeat(1, self.parts(p), 1, 1)

    def ascend(self, p: Tensor, t: Tensor, step: Tensor) -> Tensor:
        """prox_{step F*}(p + step t), ``step`` (b,)."""
        return self._shrink(torch.addcmul(p, rows.expand(step, t), self.residual(t)))

    def prox(self, t: Tensor, step: Tensor) -> Tensor:
        """argmin_s F(s) + ‖s - t‖²/(2 step), ``step`` (b,), by the projection (Moreau)."""
        wide = rows.expand(step, t)
        return t - wide * self.feasible(self.residual(t) / wide)

    def polar(self, t: Tensor) -> Tensor:
        """The p in ∂F(t) that vanishes where t = c."""
        s = self.residual(t)
        size, parts = self.sizes(s), self.parts(s)
        unit = s / torch.where(size > 0, size, 1.0).repeat(1, parts, 1, 1)
        return self._shrink(unit * self.weight.expand_as(size).repeat(1, parts, 1, 1))

    def slack(self, t: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """F(t) + F*(p) - ⟨t, p⟩ >= 0, a sum of terms >= 0, and F(t); (b,) each, float64.

        How far they may be off is said by :meth:`rounding`.
        """
        return _slack(self.residual(t), p, self.weight, self.parts(p))

    def rounding(self, x: Tensor, t: Tensor, value: Tensor) -> Tensor:
        """An allowance for the error of :meth:`slack` of a computed ``t`` = A x, F(t) = ``value``.

        Made of what is subtracted: where c is, the rounding of t may be most of t - c.
        """
        eps = torch.finfo(x.dtype).eps
        size = 16 * eps * value
        if self.operator.faithful:
            if self.shift is None:
                return size
            return size + 4 * eps * _total(self.weight * self.sizes(t))
        shape = x.shape[1], x.shape[2], x.shape[3]
        moved = 2 * self.operator.roundings * eps * self.norm(shape) * rows.length(x)
        return size + 2 * moved * rows.length(self.weight.expand_as(self.sizes(t)))

    def largest(self, x: Tensor) -> Tensor:
        """The largest weight of every row of ``x``, (b,) float64."""
        weight = self.weight.detach().double()
        most = weight.flatten(1).amax(1) if weight.ndim == 4 else weight.amax()
        return most.expand(len(x))

    def scaled(self, factor: Tensor) -> GroupNorm:
        """``factor`` (b,) times the term, row by row."""
        return replace(self, weight=factor.to(self.weight)[:, None, None, None] * self.weight)

    def rows(self, index: Tensor) -> GroupNorm:
        """Of the rows ``index`` alone."""
        weight = self.weight[index] if self.weight.ndim == 4 else self.weight
        shift = self.shift
        if shift is not None and shift.ndim:
            shift = shift[index]
        return replace(self, weight=weight, shift=shift)


def _sizes(s: Tensor, group: int) -> Tensor:
    if group == 1:
        return s.abs()
    first, *others = s.chunk(group, dim=1)
    total = first * first
    for part in others:
        total = torch.addcmul(total, part, part)
    return total.sqrt()


@fused
def _slack(s: Tensor, p: Tensor, weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    value = weight * _sizes(s, group)
    first, *others = (s * p).chunk(group, dim=1)
    for part in others:
        first = first + part
    slack = (value - first).clamp_min(0.0)
    return _total(slack), _total(value)


def _total(a: Tensor) -> Tensor:
    return a.sum(-1, dtype=torch.float64).flatten(1).sum(1)
