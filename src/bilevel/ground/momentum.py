"""Momentum: how far to go on along the last step, for accelerated gradients."""

from __future__ import annotations

from torch import Tensor

__all__ = ["growing", "momentum"]


def momentum(
    t: Tensor, q: Tensor | float = 0.0, growth: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """t_{k+1} and β_k from t_k, for q = mu/L < 1 and ``growth``, the ratio of successive L.

    t_{k+1} = (1 - q t_k² + √((1 - q t_k²)² + 4 growth t_k²))/2,
    β_k = (t_k - 1)(1 - q t_{k+1})/(t_{k+1}(1 - q)).

    Source: Chambolle and Pock 2016, Algorithm 5; Calatroni and Chambolle 2019 where L changes.

    Example:
        >>> import torch
        >>> momentum(torch.ones(1))
        (tensor([1.6180]), tensor([0.]))
    """
    square = t * t
    if isinstance(q, float) and not q:
        following = (1 + (1 + 4 * growth * square).sqrt()) / 2
        return following, (t - 1) / following
    a = 1 - q * square
    following = (a + (a * a + 4 * growth * square).sqrt()) / 2
    return following, (t - 1) * (1 - q * following) / (following * (1 - q))


def growing(k: int) -> float:
    """β_k = k/(k + 3) for steps of one length, where no strong convexity is known (Nesterov 1983).

    Example:
        >>> growing(3)
        0.5
    """
    return k / (k + 3)
