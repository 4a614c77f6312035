"""ψ_p(y) = [(1 + |y|²)^(p/2) - 1]/p of vectors y, 0 < p <= 2: its constants as functions of p.

As for the potentials of one variable ψ(0) = 0 and ∇²ψ(0) = I. With q = |y|² and unit vectors v the
eigenvalues of ∇²ψ are (1 + q)^(p/2 - 1) across y and (1 + q)^(p/2 - 2) (1 - (1 - p) q) along it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["curvature_min", "exponent_factor", "lipschitz"]


def curvature_min(p: Tensor) -> Tensor:
    """A lower bound of ∇²ψ: 0 for p >= 1, otherwise -2 ((1 - p)/(4 - p))^(2 - p/2).

    The latter is attained along y at q = 3/(1 - p).
    """
    concave = (1 - p).clamp_min(0.0)
    return -2 * (concave / (4 - p)).pow(2 - p / 2)


def lipschitz(p: Tensor) -> Tensor:
    """Of ∇²ψ.

    With q x² = ⟨y, v⟩² the third derivative along v is

        (2 - p) (1 + q)^(p/2 - 3) √q x [(4 - p) q x² - 3 (1 + q)],

    and its extrema over x lie at x = 1, or, for (3 - p) q >= 1, at (4 - p) q x² = 1 + q, where it
    decreases with q. So they lie at x = 1, and there at the roots of (1 - p) q² - 6 q + 3/(3 - p):
    the smaller one for every p in (0, 2], since at the other one, q >= 3, (1 + q)^((p - 3)/2) is
    less than what q = 1/4 gives.
    """
    far = 9 - 3 * (1 - p) / (3 - p)
    q = 3 / (3 - p) / (3 + far.sqrt())
    return (2 - p) * (1 + q).pow(p / 2 - 3) * q.sqrt() * (3 - (1 - p) * q)


def exponent_factor(p: Tensor, start: Tensor, reach: Tensor) -> Tensor:
    """Of the Jacobian of y -> (1 + q)^(p/2 - 1) (k + ½ log(1 + q)) y, where q <= ``reach``.

    ``start`` is k. The Jacobian is (1 + q)^(p/2 - 1) (k + ½ log(1 + q)) across y; along it that
    times (1 + (p - 1) q)/(1 + q), which lies in [-1, 1], plus q (1 + q)^(p/2 - 2) <= 1. And
    ½ log(1 + q) (1 + q)^(p/2 - 1) is at most ½ log(1 + q) and 1/(e (2 - p)).
    """
    most = 1 / (math.e * (2 - p))
    return start.abs() + torch.minimum(most, 0.5 * torch.log1p(reach)) + 1
