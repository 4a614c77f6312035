"""What the ball ‖x' - x‖ <= radius means for grouped experts: faces crossed, derivatives changed.

Notation as in :class:`~bilevel.model.regularisers.grouped.GroupedExperts`, n = ‖Q‖, z =
c Q u/(τ n²) and v = W q in one group at one place. Between faces P is affine: with e(u) = P(u) -
DP(u) u, which is s/|S| outside of the ball and 0 inside,

    ∂(s ∇φ)/∂log s = s (e(u) - c Qᵀ e(z)),    ∂(s ∇φ)/∂log τ = s c Qᵀ (P(z) - e(z)),

of which e only jumps, by at most |e| + 1, and P is 1-Lipschitz. In a unit direction D of Q

    ∂(s ∇φ)/∂Q D = -s c (Dᵀ P(z) + Qᵀ DP(z) c D u/(τ n²) - 2 ṅ/n Qᵀ (P(z) - e(z))),   |ṅ| <= 1.

c is bounded by 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.model.bounds import Variation
from bilevel.model.l1_ball import crossing, piece, projection, threshold
from bilevel.model.regularisers.cascade import rounded_norms, row_norms
from bilevel.model.regularisers.groups import mixed, parted

__all__ = ["Groups"]

Pair = tuple[Tensor, Tensor]
"""Bounds of cross and cross_norm by one parameter, (b,) each."""


@dataclass(frozen=True)
class Groups:
    """u and z, (d, b, K, h, w), and 1 where a face of P may be crossed at them, (b, K, h, w).

    ``inner`` and ``outer`` are the maps of u to z and back, ``norm`` >= ‖W‖, ``weight`` w,
    ``scale`` s, ``blunt`` τ and ``norms`` n, (K, 1, 1) each.
    """

    u: Tensor
    z: Tensor
    jump: Tensor
    blunt_jump: Tensor
    move: Tensor
    outer: Tensor
    norm: Tensor
    weight: Tensor
    scale: Tensor
    blunt: Tensor
    norms: Tensor

    @staticmethod
    def of(
        features: Tensor,
        banks: Sequence[Tensor],
        ball: tuple[Tensor, Tensor],
        maps: tuple[Tensor, Tensor],
        *,
        norm: Tensor,
        weight: Tensor,
        scale: Tensor,
        blunt: Tensor,
        norms: Tensor,
    ) -> Groups:
        """At u = ``features`` of an x with W = ``banks``; ``ball`` is the radius, and ‖x‖.

        The rounding of u is counted in.
        """
        radius, size = (part.to(features) for part in ball)
        inner, outer = maps
        u = parted(features, len(inner))
        z = mixed(inner, u)

        def together(each: Tensor) -> Tensor:
            parts = each.to(features).reshape(len(inner), -1, *each.shape[1:])
            return parts.square().sum(0).sqrt() / scale

        sides = features.shape[2], features.shape[3]
        allowance = 8 * torch.finfo(features.dtype).eps * size
        reach = rows.expand(radius, u[0]) * together(row_norms(banks, *sides))
        reach = reach + rows.expand(allowance, u[0]) * together(rounded_norms(banks, *sides))
        jump = crossing(u, reach).to(features)
        blunt_jump = crossing(z, reach / (norms * blunt)).to(features)
        return Groups(
            u=torch.stack(u),
            z=torch.stack(z),
            jump=jump,
            blunt_jump=blunt_jump,
            move=norm * radius,
            outer=outer,
            norm=norm,
            weight=weight,
            scale=scale,
            blunt=blunt,
            norms=norms,
        )

    def variation(self, v: Tensor, pull: Tensor, learned: Mapping[str, bool]) -> Variation:
        """For v (d, b, K, h, w) and ‖∇R(x)‖ = ``pull``, as parameters are ``learned``."""
        sizes = _length(v)
        leap = self.jump + self.blunt_jump / self.blunt
        bend = (self.norm * self.weight * rows.length(leap * sizes)).double()
        parts = {
            "log_weight": self._by_weight(sizes, pull),
            "log_scale": self._by_scale(sizes),
            "log_bluntness": self._by_bluntness(sizes),
            "mixing": self._by_mixing(sizes),
        }
        zero = torch.zeros_like(bend)
        known = [(zero, zero), *(part for name, part in parts.items() if learned[name])]
        cross, reach = (torch.stack(k).square().sum(0).sqrt() for k in zip(*known, strict=True))
        found = Variation(bend, cross, reach)
        return found.without_parameters() if learned["filters.0"] else found

    def _by_weight(self, v: Tensor, pull: Tensor) -> Pair:
        move = self.weight * self.move
        return rows.length(v) * move, pull + self.norm * move

    def _by_scale(self, v: Tensor) -> Pair:
        first, second = _edge(self.u), _edge(self.z)
        level = torch.stack(list(first)) - torch.stack(mixed(self.outer, list(second)))
        leap = self.jump * (1 + _length(first)) + self.norms * self._edge_leap
        steep = self.weight * self.scale
        cross = _sums(steep * leap * v)
        return _norm(cross), self._most(_norms(steep * _length(level)) + _norms(steep * leap))

    def _by_bluntness(self, v: Tensor) -> Pair:
        steep = self.weight * self.scale * self.norms
        leap, drift = steep * self._edge_leap, self._drift(self.weight / self.blunt)
        cross = _sums(leap * v) + drift * _norms(v)
        return _norm(cross), self._most(_norms(steep * _length(self._rest)) + _norms(leap) + drift)

    def _by_mixing(self, v: Tensor) -> Pair:
        steep, per = self.weight * self.scale, 1 / (self.norms * self.blunt)
        size = per * _length(self.u)
        leap = steep * (self.blunt_jump * size + 2 * self._edge_leap)
        drift = self._drift(4 * self.weight * per)
        cross = _sums(leap * v) + drift * _norms(v)
        here = _length(self._projected) + size + 2 * _length(self._rest)
        return _norm(cross), self._most(_norms(steep * here) + _norms(leap) + drift)

    @property
    def _projected(self) -> Tensor:
        """P(z)."""
        z = list(self.z)
        return torch.stack(projection(z, threshold(z)))

    @property
    def _rest(self) -> Tensor:
        """P(z) - e(z)."""
        return self._projected - _edge(self.z)

    @property
    def _edge_leap(self) -> Tensor:
        """How far e(z) may jump."""
        return self.blunt_jump * (1 + _length(_edge(self.z)))

    def _drift(self, steep: Tensor) -> Tensor:
        """``steep`` (K, 1, 1) times the move, (b, K)."""
        return (steep[:, 0, 0] * self.move[:, None]).double()

    def _most(self, columns: Tensor) -> Tensor:
        """‖W‖ times the largest of (b, K): groups are disjoint channels."""
        return self.norm * columns.amax(1)


def _edge(u: Tensor) -> Tensor:
    """e(u)."""
    normal = torch.stack(piece(list(u))[1])
    return normal * normal.abs()


def _length(u: Tensor) -> Tensor:
    """|u| of every group, (b, K, h, w)."""
    return cast(Tensor, torch.linalg.vector_norm(u, dim=0))


def _sums(a: Tensor) -> Tensor:
    """(b, K) float64."""
    return a.double().sum((2, 3))


def _norms(a: Tensor) -> Tensor:
    """(b, K) float64."""
    return a.double().square().sum((2, 3)).sqrt()


def _norm(columns: Tensor) -> Tensor:
    return columns.square().sum(1).sqrt()
