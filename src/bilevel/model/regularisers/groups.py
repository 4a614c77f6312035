"""The potential of groups of features: an envelope less a blunter envelope of mixed components.

φ(u) = m(u) - t m(A u) for u in R^d, with ∇φ(u) = P(u) - t Aᵀ P(A u); m and P as in
:mod:`bilevel.model.l1_ball`. Component j of K groups are the channels j K, ..., (j + 1) K - 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bilevel.ground.fused import fused
from bilevel.model.l1_ball import envelope, piece, projection, threshold

__all__ = ["Pieces", "bent", "force", "mixed", "parted", "pieces", "value_and_force"]

Pieces = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of DP at u and at A u: what multiplies entry by entry, and the vectors of rank one."""


def parted(u: Tensor, size: int) -> list[Tensor]:
    """The components, (b, K, h, w) each; as written, passes over memory in order are faster."""
    ordered = u if torch.compiler.is_compiling() else u.contiguous()
    return list(ordered.chunk(size, 1))


def mixed(matrix: Tensor, u: Sequence[Tensor]) -> list[Tensor]:
    """A_k u_k in every group; ``matrix`` (d, d, K, 1, 1)."""
    return [_combined(row, u) for row in matrix]


def _combined(row: Tensor, u: Sequence[Tensor]) -> Tensor:
    total = row[0] * u[0]
    for j in range(1, len(u)):
        total = torch.addcmul(total, row[j], u[j])
    return total


def force(u: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
    """∇φ(u); ``inner`` A and ``outer`` t Aᵀ, (d, d, K, 1, 1) each."""
    return torch.cat(_forces(u, inner, outer), 1)


def value_and_force(
    u: Tensor, inner: Tensor, outer: Tensor, scale: Tensor, blunt: Tensor
) -> tuple[Tensor, Tensor]:
    """Σ scale m(u) - blunt m(A u), (b,), and ∇φ(u); both factors (K,)."""
    value, *forces = _value_and_forces(u, inner, outer, scale, blunt)
    return value, torch.cat(forces, 1)


def pieces(u: Tensor, inner: Tensor) -> Pieces:
    """The derivatives of P at u and at A u."""
    found, d = _pieces(u, inner), len(inner)
    first, second, third, fourth = (torch.cat(found[k * d : (k + 1) * d], 1) for k in range(4))
    return first, second, third, fourth


def bent(v: Tensor, found: Pieces, inner: Tensor, outer: Tensor) -> Tensor:
    """∇²φ v = DP(u) v - t Aᵀ DP(A u) A v from the ``pieces`` at u."""
    return torch.cat(_bent(v, *found, inner, outer), 1)


# What is compiled gives its components one by one: put together in the same pass, each of them
# would be computed anew, in code that takes half as long again to compile.


@fused
def _forces(u: Tensor, inner: Tensor, outer: Tensor) -> tuple[Tensor, ...]:
    parts = parted(u, len(inner))
    turned = mixed(inner, parts)
    z = projection(turned, threshold(turned))
    return _pulled(projection(parts, threshold(parts)), z, outer)


@fused
def _value_and_forces(
    u: Tensor, inner: Tensor, outer: Tensor, scale: Tensor, blunt: Tensor
) -> tuple[Tensor, ...]:
    parts = parted(u, len(inner))
    first = threshold(parts)
    p = projection(parts, first)
    turned = mixed(inner, parts)
    second = threshold(turned)
    z = projection(turned, second)
    value = _weighed(envelope(first, p), scale) - _weighed(envelope(second, z), blunt)
    return value, *_pulled(p, z, outer)


@fused
def _pieces(u: Tensor, inner: Tensor) -> tuple[Tensor, ...]:
    parts = parted(u, len(inner))
    first, second = piece(parts), piece(mixed(inner, parts))
    return tuple(part for each in (*first, *second) for part in each)


@fused
def _bent(
    v: Tensor, a: Tensor, n: Tensor, c: Tensor, m: Tensor, inner: Tensor, outer: Tensor
) -> tuple[Tensor, ...]:
    parts = parted(v, len(inner))
    first = _applied(parts, parted(a, len(parts)), parted(n, len(parts)))
    second = _applied(mixed(inner, parts), parted(c, len(parts)), parted(m, len(parts)))
    return _pulled(first, second, outer)


def _applied(v: Sequence[Tensor], a: Sequence[Tensor], n: Sequence[Tensor]) -> list[Tensor]:
    along = v[0] * n[0]
    for part, normal in zip(v[1:], n[1:], strict=True):
        along = torch.addcmul(along, part, normal)
    return [on * part - normal * along for on, part, normal in zip(a, v, n, strict=True)]


def _pulled(p: Sequence[Tensor], z: Sequence[Tensor], outer: Tensor) -> tuple[Tensor, ...]:
    return tuple(a - b for a, b in zip(p, mixed(outer, z), strict=True))


def _weighed(penalty: Tensor, scales: Tensor) -> Tensor:
    """Σ_k scale_k Σ_i penalty_ki, as a product with channels last, their order in memory."""
    return (penalty.permute(0, 2, 3, 1) @ scales).flatten(1).sum(1)
