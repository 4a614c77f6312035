"""J + s ℓ: the lower level pulled towards, or away from, what the upper level wants."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.differentiate.upper import Upper
from bilevel.ground.errors import InputError
from bilevel.ground.rows import expand, norm
from bilevel.ground.theta import Theta
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Provenance, Variation
from bilevel.model.composite import NonSmoothObjective
from bilevel.model.cost import Cost
from bilevel.model.objective import Objective, SmoothObjective

__all__ = ["Perturbed", "perturbed"]


def perturbed(lower: Objective, upper: Upper, strength: Tensor) -> Objective:
    """J + s ℓ, whose f takes the term where J is not smooth.

    Raises:
        InputError: an objective that no energy makes.
    """
    if isinstance(lower, NonSmoothObjective):
        return lower.with_smooth(Perturbed(lower.smooth, upper, strength))
    if isinstance(lower, SmoothObjective):
        return Perturbed(lower, upper, strength)
    raise InputError("a loss can be added to objectives of energies only", given=type(lower))


@dataclass(frozen=True)
class Perturbed(SmoothObjective):
    """x -> J(x) + s_k ℓ(x, target) for every row k, with ``strength`` s (b,) of either sign."""

    lower: SmoothObjective
    upper: Upper
    strength: Tensor

    @property
    def y(self) -> Tensor:
        """That of J."""
        return self.lower.y

    @property
    def cost(self) -> Cost:
        """That of J."""
        return self.lower.cost

    def over(self, base: SmoothObjective) -> Perturbed:
        """The same pull on another J."""
        return replace(self, lower=self.lower.over(base))

    @property
    def bounds(self) -> Bounds:
        """Those of J, each moved by |s| Lip(∇ℓ)."""
        x = self.upper.target
        everywhere = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        change = self.strength.double().abs() * self.upper.lipschitz(x, everywhere)
        own = self.lower.bounds
        known = bool(torch.isfinite(change).all())
        return replace(
            own,
            mu=own.mu - change,
            lipschitz=own.lipschitz + change,
            mu_from=own.mu_from if known else Provenance.UNKNOWN,
        )

    def start(self) -> Tensor:
        """That of J."""
        return self.lower.start()

    def value(self, x: Tensor) -> Tensor:
        """J + s ℓ."""
        return self.lower.value(x) + self.strength * self.upper.value(x)

    def grad(self, x: Tensor) -> Tensor:
        """∇J + s ∇ℓ."""
        return self.lower.grad(x) + expand(self.strength, x) * self.upper.grad(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        value, slope = self.lower.value_and_grad(x)
        pull = expand(self.strength, x) * self.upper.grad(x)
        return value + self.strength * self.upper.value(x), slope + pull

    def hessian(self, x: Tensor) -> LinearMap:
        """∇²J + s ∇²ℓ."""
        return LinearMap.sum([self.lower.hessian(x), self._pull_hessian(x)])

    def _pull_hessian(self, x: Tensor) -> LinearMap:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            slope = expand(self.strength, x) * self.upper.grad(point)

        def apply(v: Tensor) -> Tensor:
            return torch.autograd.grad(slope, point, v, retain_graph=True)[0]

        return LinearMap(apply, lambda index: self.rows(index)._pull_hessian(x[index]))

    def rounding(self, x: Tensor) -> Tensor:
        """That of J, and 4 eps of what is added."""
        pull = self.strength.abs() * norm(self.upper.grad(x))
        return self.lower.rounding(x) + 4 * torch.finfo(x.dtype).eps * pull.double()

    @property
    def theta(self) -> Theta:
        """That of J."""
        return self.lower.theta

    def cross_vjp(self, x: Tensor, q: Tensor) -> Theta:
        """That of J: ℓ has no θ."""
        return self.lower.cross_vjp(x, q)

    def theta_grad(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Theta]:
        """J + s ℓ and the derivative of J."""
        value, slope = self.lower.theta_grad(x, weight)
        return value + self.strength * self.upper.value(x), slope

    def with_data(self) -> Perturbed:
        """J with its data among θ."""
        return replace(self, lower=self.lower.with_data())

    def taped(self, theta: Theta) -> Perturbed:
        """The same at ``theta``, recorded."""
        return replace(self, lower=self.lower.taped(theta))

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """That of J, and |s| · 2 Lip(∇ℓ) ‖q‖."""
        own = self.lower.variation(x, q, radius)
        size = norm(q).double()
        extra = 2 * self.strength.double().abs() * self.upper.lipschitz(x, radius) * size
        return replace(own, hessian=own.hessian + extra)

    def double(self) -> Perturbed:
        """Everything in float64."""
        return Perturbed(self.lower.double(), self.upper.double(), self.strength.double())

    def rows(self, index: Tensor) -> Perturbed:
        """The rows ``index`` alone."""
        return Perturbed(self.lower.rows(index), self.upper.rows(index), self.strength[index])
