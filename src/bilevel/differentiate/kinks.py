"""Kinks: where the second derivative jumps, θ -> x̂(θ) is Lipschitz but may not be smooth."""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.model.objective import Objective
from bilevel.solve import Solution

__all__ = ["count_kinks"]


def count_kinks(lower: Objective, solution: Solution) -> Tensor:
    """At most how many features may change piece within the certified distance, (b,) float64.

    With 0, J is twice continuously differentiable around x̂, and a hypergradient is the derivative.
    Otherwise a feature may sit on a kink at x̂: the Hessian used is then an element of the
    conservative Jacobian (Bolte, Le, Pauwels, Silveti-Falls 2021), and so is what follows from it.
    Infinite where no distance is certified or the energy cannot tell.
    """
    x, rms = solution.x, solution.certificate.rms
    certified = torch.isfinite(rms)
    radius = torch.where(certified, rms, 0.0) * x[0].numel() ** 0.5
    return torch.where(certified, lower.smoothness(x, radius).kinks, torch.inf)
