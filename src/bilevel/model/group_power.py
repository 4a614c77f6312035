"""Σ_i w_i (t_iᵀ M_i t_i)^(p_i/2) of t = A x: powers of lengths in a metric, convex for p >= 1."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.group_norm import GroupNorm
from bilevel.model.metrics import Metric

__all__ = ["GroupPower"]

Pair = tuple[Tensor, Tensor]
STARTS, REFINED = 40, 40


@dataclass(frozen=True)
class GroupPower(GroupNorm):
    """F(A x) = Σ_i w_i (t_iᵀ M_i t_i)^(p_i/2), t_i = (right, down), in two halves, down first.

    ``exponent`` p in (0, 2] and ``metric`` M are numbers or maps (h, w). Where p < 1, F is not
    convex: its largest convex minorant is 0, so that 0 is the only feasible dual variable there.
    """

    group: int | None = 2
    exponent: Tensor = field(default_factory=lambda: torch.ones(()))
    metric: Metric = field(default_factory=lambda: Metric(*torch.zeros(3)))

    @property
    def convex(self) -> bool:
        """Whether all exponents are at least 1."""
        return bool((self.exponent >= 1).all())

    @property
    def homogeneous(self) -> bool:
        """It is not one, but for p = 1."""
        return False

    def value(self, t: Tensor) -> Tensor:
        """F(t), (b,)."""
        return (self.weight * self._square(t).pow(self.exponent / 2)).flatten(1).sum(1)

    def prox(self, t: Tensor, step: Tensor) -> Tensor:
        """argmin_s F(s) + ‖s - t‖²/(2 step), ``step`` (b,): a search of one root, pixel by pixel.

        In the eigen-axes of M stationary s ≠ 0 are s_k = t_k/(1 + μ λ_k), and
        μ = step p w Q^(p/2 - 1) with Q = Σ_k λ_k s_k². Along that curve the sum falls with μ where
        μ is less than that, so that minima lie where log μ + (1 - p/2) log Q comes up through a
        constant: once, or never, where p >= 1. Where p < 1 it may do so several times: the least
        of 40 values is refined, and compared with s = 0.
        """
        angle = torch.atan2(self.metric.s, self.metric.c) / 2
        c, s = angle.cos(), angle.sin()
        down, right = t.chunk(2, 1)
        along, across = c * right + s * down, c * down - s * right
        search = _Search(
            (along, across),
            self._eigenvalues(),
            rows.expand(step, along) * self.weight,
            self.exponent,
        )
        first, second = search.found()
        return torch.cat([s * first + c * second, c * first - s * second], 1)

    def feasible(self, p: Tensor) -> Tensor:
        """A p with finite F*, not the nearest: cut off at the ellipse for p = 1, 0 for p < 1."""
        size = self._dual_size(p)
        scale = self.weight / torch.maximum(size, self.weight)
        scale = torch.where(self.exponent > 1, 1.0, scale)
        scale = torch.where(self.exponent < 1, 0.0, scale)
        return scale.repeat(1, 2, 1, 1) * p

    def ascend(self, p: Tensor, t: Tensor, step: Tensor) -> Tensor:
        """prox_{step F*}(p + step t), by that of F (Moreau); for convex F."""
        wide = rows.expand(step, t)
        ahead = p + wide * t
        return ahead - wide * self.prox(ahead / wide, 1 / step)

    def polar(self, t: Tensor) -> Tensor:
        """∇F(t), 0 where t = 0; feasible."""
        square, m = self._square(t), self.metric.entries()
        safe = torch.where(square > 0, square, 1.0)
        scale = self.weight * self.exponent * safe.pow(self.exponent / 2 - 1)
        down, right = t.chunk(2, 1)
        pull = torch.cat([m[1] * right + m[2] * down, m[0] * right + m[1] * down], 1)
        force = torch.where(square > 0, scale, 0.0).repeat(1, 2, 1, 1) * pull
        return self.feasible(force)

    def slack(self, t: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """F(t) + F*(p) - ⟨t, p⟩ >= 0, and the sum of the sizes of the three; (b,) each, float64.

        F*(p) = (q - 1) w (|M^(-1/2)p|/(w p))^(p/(p - 1)), q = p here the exponent; 0 for q <= 1.
        """
        value = self.weight * self._square(t).pow(self.exponent / 2)
        above = self.exponent > 1
        safe = torch.where(above, self.exponent, 2.0)
        ratio = self._dual_size(p) / (self.weight * safe)
        conjugate = torch.where(above, (safe - 1) * self.weight * ratio.pow(safe / (safe - 1)), 0.0)
        inner = torch.stack((t * p).chunk(2, 1)).sum(0)
        slack = (value + conjugate - inner).clamp_min(0.0)
        return _total(slack), _total(value + conjugate + inner.abs())

    def rounding(self, x: Tensor, t: Tensor, value: Tensor) -> Tensor:
        """Of what :meth:`slack` adds up, of squares that cancel by the ratio of eigenvalues."""
        first, second = self._eigenvalues()
        return (16 + 8 * float((first / second).max())) * torch.finfo(x.dtype).eps * value

    def largest(self, x: Tensor) -> Tensor:
        """w λ^(p/2) at most, λ the larger eigenvalue, for every row of ``x``, (b,) float64."""
        size = (self.weight * self._eigenvalues()[0].pow(self.exponent / 2)).detach().double()
        most = size.flatten(1).amax(1) if size.ndim == 4 else size.amax()
        return most.expand(len(x))

    def _square(self, t: Tensor) -> Tensor:
        """tᵀMt."""
        m = self.metric.entries()
        down, right = t.chunk(2, 1)
        square = m[0] * right.square() + 2 * m[1] * right * down + m[2] * down.square()
        return square.clamp_min(0.0)

    def _dual_size(self, p: Tensor) -> Tensor:
        """√(pᵀM⁻¹p)."""
        m = self.metric.power(-1.0).entries()
        down, right = p.chunk(2, 1)
        square = m[0] * right.square() + 2 * m[1] * right * down + m[2] * down.square()
        return square.clamp_min(0.0).sqrt()

    def _eigenvalues(self) -> Pair:
        r = self.metric.square.sqrt()
        return (self.metric.b + r).exp(), (self.metric.b - r).exp()


@dataclass(frozen=True)
class _Search:
    """min over s of a (Σ_k λ_k s_k²)^(p/2) + ½ |s - t|², pixel by pixel; ``weight`` is a."""

    t: Pair
    eigenvalues: Pair
    weight: Tensor
    exponent: Tensor

    def found(self) -> Pair:
        """The least of the curve's minima and of s = 0."""
        size = sum(v * s.square() for v, s in zip(self.eigenvalues, self.t, strict=True))
        size = torch.as_tensor(size)
        p = self.exponent
        least = (self.weight * p).log() + (p / 2 - 1) * size.clamp_min(
            torch.finfo(size.dtype).tiny
        ).log()
        steps = torch.linspace(0.0, 1.0, STARTS).to(size)
        steps = 8 * steps + 52 * steps**6
        values = torch.stack([self.energy(least + step) for step in steps])
        place = values.argmin(0)
        low = least + steps[(place - 1).clamp_min(0)]
        high = least + steps[(place + 1).clamp_max(STARTS - 1)]
        for _ in range(REFINED):
            middle = (low + high) / 2
            ahead = self.rising(middle) < 0
            low, high = torch.where(ahead, middle, low), torch.where(ahead, high, middle)
        log = (low + high) / 2
        nothing = 0.5 * (self.t[0].square() + self.t[1].square())
        keep = (self.energy(log) < nothing) & (size > 0)
        first, second = (torch.where(keep, s, 0.0) for s in self.at(log))
        return first, second

    def at(self, log: Tensor) -> Pair:
        """The point of the curve at log μ."""
        factor = log.exp()
        first, second = (
            s / (1 + factor * v) for v, s in zip(self.eigenvalues, self.t, strict=True)
        )
        return first, second

    def energy(self, log: Tensor) -> Tensor:
        """What is minimised, there."""
        s = self.at(log)
        far = (s[0] - self.t[0]).square() + (s[1] - self.t[1]).square()
        return self.weight * self._square(s).pow(self.exponent / 2) + far / 2

    def rising(self, log: Tensor) -> Tensor:
        """Positive where the energy rises with μ."""
        square = self._square(self.at(log))
        square = square.clamp_min(torch.finfo(square.dtype).tiny)
        return log - (self.weight * self.exponent).log() + (1 - self.exponent / 2) * square.log()

    def _square(self, s: Pair) -> Tensor:
        return self.eigenvalues[0] * s[0].square() + self.eigenvalues[1] * s[1].square()


def _total(a: Tensor) -> Tensor:
    return a.sum(-1, dtype=torch.float64).flatten(1).sum(1)
