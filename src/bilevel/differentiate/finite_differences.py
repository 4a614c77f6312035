"""Central differences of the whole map θ -> L(θ): slow, simple, the oracle for all others."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bilevel.ground.theta import Theta, flatten, unflatten

__all__ = ["finite_differences"]


def finite_differences(value: Callable[[Theta], float], theta: Theta, step: float = 1e-5) -> Theta:
    """(L(θ + s e_i) - L(θ - s e_i))/(2 s) for every entry of θ; error O(s²) + noise/s.

    Example:
        >>> square = lambda theta: float((theta["w"] ** 2).sum())
        >>> finite_differences(square, {"w": torch.tensor([3.0], dtype=torch.float64)})["w"].round()
        tensor([6.], dtype=torch.float64)
    """
    point = flatten(theta)
    slopes = torch.zeros_like(point)
    for i in range(point.numel()):
        shift = torch.zeros_like(point)
        shift[i] = step
        ahead = value(unflatten(point + shift, theta))
        behind = value(unflatten(point - shift, theta))
        slopes[i] = (ahead - behind) / (2 * step)
    return unflatten(slopes, theta)
