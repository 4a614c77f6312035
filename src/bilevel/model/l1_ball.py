"""The unit l1 ball: the projection P onto it, which is ∇m, m the Moreau envelope of max_i |u_i|.

m(u) = min_v max_i |v_i| + ½‖u - v‖² is smooth, and m(u) = θ + ½‖P(u)‖² with P(u) =
sign(u) max(|u| - θ, 0) and the threshold θ = max(0, max_k (|u|_(1) + ... + |u|_(k) - 1)/k), |u|
sorted downwards. P is linear between the faces ‖u‖₁ = 1 and |u_i| = θ(u).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["crossing", "envelope", "piece", "projection", "threshold"]

NETWORKS = {
    1: (),
    2: ((0, 1),),
    3: ((0, 1), (1, 2), (0, 1)),
    4: ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2)),
}
"""Comparators that sort so many numbers downwards."""


def threshold(u: Sequence[Tensor]) -> Tensor:
    """θ(u) >= 0 of vectors whose components are the tensors ``u``.

    Example:
        >>> threshold((torch.tensor([0.5, 3.0]), torch.tensor([-0.2, -2.5])))
        tensor([0.0000, 2.2500])
    """
    first, *others = _sorted([part.abs() for part in u])
    total = first - 1
    found = total.clamp_min(0.0)
    for k, part in enumerate(others, start=2):
        total = total + part
        found = torch.maximum(found, total / k)
    return found


def _sorted(sizes: list[Tensor]) -> Sequence[Tensor]:
    """Downwards."""
    network = NETWORKS.get(len(sizes))
    if network is None:
        return torch.stack(sizes).sort(0, descending=True).values.unbind(0)
    for i, j in network:
        sizes[i], sizes[j] = torch.maximum(sizes[i], sizes[j]), torch.minimum(sizes[i], sizes[j])
    return sizes


def projection(u: Sequence[Tensor], theta: Tensor) -> list[Tensor]:
    """P(u), from the threshold of u."""
    return [part - torch.minimum(torch.maximum(part, -theta), theta) for part in u]


def envelope(theta: Tensor, p: Sequence[Tensor]) -> Tensor:
    """m(u), from the threshold of u and P(u)."""
    total = theta
    for part in p:
        total = torch.addcmul(total, part, part, value=0.5)
    return total


def piece(u: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Vectors a and n with DP(u) v = a v - n ⟨n, v⟩: I inside, else I_S - s sᵀ/|S|.

    S are the components that P does not make 0, and s their signs.
    """
    theta = threshold(u)
    outside = theta > 0
    active = [(part.abs() > theta) | ~outside for part in u]
    count = torch.stack(active).sum(0).to(theta.dtype)
    share = torch.where(outside, count.rsqrt(), 0.0)
    normal = [part.sign() * share * on for part, on in zip(u, active, strict=True)]
    return [on.to(theta.dtype) for on in active], normal


def crossing(u: Sequence[Tensor], reach: Tensor) -> Tensor:
    """Whether P may have another derivative somewhere within ``reach`` of u.

    ‖u‖₁ changes by √d at most, |u_i| - θ(u) by √2: the gradient of θ is s/|S|.

    Example:
        >>> u = (torch.tensor([0.5, 3.0]), torch.tensor([-0.2, -2.5]))
        >>> crossing(u, torch.tensor(0.1)), crossing(u, torch.tensor(0.3))
        (tensor([False, False]), tensor([True, True]))
    """
    theta = threshold(u)
    excess = torch.stack([part.abs() for part in u]).sum(0) - 1
    gap = torch.stack([(part.abs() - theta).abs() for part in u]).amin(0)
    face = excess.abs() <= len(u) ** 0.5 * reach
    return face | ((excess > 0) & (gap <= 2**0.5 * reach))
