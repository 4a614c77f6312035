"""s ℓ: what pulls the lower level towards, or away from, what the upper level wants."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.differentiate.upper import Upper
from bilevel.ground import rows
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Provenance, Variation
from bilevel.model.operators.operator import Shape
from bilevel.model.smooth import Pull

__all__ = ["LossPull"]


@dataclass(frozen=True)
class LossPull(Pull):
    """x -> s_k ℓ(x, target) for every row k, with ``strength`` s (b,) of either sign."""

    upper: Upper
    strength: Tensor

    def value(self, x: Tensor) -> Tensor:
        """s ℓ."""
        return self.strength * self.upper.value(x)

    def grad(self, x: Tensor) -> Tensor:
        """s ∇ℓ."""
        return rows.expand(self.strength, x) * self.upper.grad(x)

    def hessian(self, x: Tensor) -> LinearMap:
        """s ∇²ℓ."""
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            slope = self.grad(point)

        def apply(v: Tensor) -> Tensor:
            return torch.autograd.grad(slope, point, v, retain_graph=True)[0]

        return LinearMap(apply, lambda index: self.rows(index).hessian(x[index]))

    def bounds(self, shape: Shape) -> Bounds:
        """Within |s| Lip(∇ℓ) of 0."""
        image = self.upper.target.new_zeros(len(self.upper.target), *shape)
        everywhere = torch.full((len(image),), torch.inf, dtype=torch.float64).to(image.device)
        strength, steep = self.strength.double().abs(), self.upper.lipschitz(image, everywhere)
        change = torch.where(strength > 0, strength * steep, 0.0)
        known = bool(torch.isfinite(change).all())
        origin = Provenance.PROVED if known else Provenance.UNKNOWN
        return Bounds(-change, change, origin, origin)

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """|s| · 2 Lip(∇ℓ) ‖q‖; there is no θ."""
        most = 2 * self.strength.double().abs() * self.upper.lipschitz(x, radius)
        size, nothing = rows.length(q), torch.zeros_like(most)
        return Variation(torch.where(size > 0, most * size, 0.0), nothing, nothing)

    def rounding(self, x: Tensor) -> Tensor:
        """4 eps of |s| Lip(∇ℓ) (‖x‖ + ‖target‖), what ∇ℓ subtracts; of ∇ℓ where Lip is unknown."""
        steep = self.upper.lipschitz(x, torch.zeros(len(x), dtype=torch.float64, device=x.device))
        operands = steep * (rows.length(x) + rows.length(self.upper.target))
        slope = rows.length(self.upper.grad(x))
        size = torch.where(torch.isfinite(operands), torch.maximum(operands, slope), slope)
        return 4 * torch.finfo(x.dtype).eps * self.strength.abs().double() * size

    def double(self) -> LossPull:
        """The same in float64."""
        return LossPull(self.upper.double(), self.strength.double())

    def rows(self, index: Tensor) -> LossPull:
        """The rows ``index`` alone."""
        return LossPull(self.upper.rows(index), self.strength[index])
