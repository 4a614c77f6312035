"""Three approximations of the architecture gradient that differ in the adjoint v alone.

All are ∂_α ℓ(x̃, α) + ∂_α⟨v, ∇_x J(x, α)⟩ with

    first order     x̃ = x,               v = 0
    second order    x̃ = x - ξ ∇J(x, α),  v = -ξ ∇ℓ(x̃, α)
    implicit        x̃ = x,               v = -(∇²J(x, α) + λI)⁻¹ ∇ℓ(x, α)

Source of the first two: Liu, Simonyan & Yang 2019, DARTS, arXiv:1806.09055, eqs (5)-(8).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground import theta as algebra
from bilevel.ground.checks import check_choice, check_nonnegative, check_positive
from bilevel.learn.directions import Draw, Iterates
from bilevel.linear import LinearMap, cg

__all__ = ["Approximation", "ArchitectureGradient", "FirstOrder", "Implicit", "SecondOrder"]


@dataclass(frozen=True)
class ArchitectureGradient:
    """The gradient by α, the upper loss [nat] on the samples drawn and the adjoint v."""

    theta: bl.Theta
    value: float
    v: Tensor


class Approximation(ABC):
    """From samples drawn at both levels; ``at.v`` is the adjoint of the step before."""

    @abstractmethod
    def __call__(
        self, problem: bl.SharedProblem, theta: bl.Theta, at: Iterates, draw: Draw
    ) -> ArchitectureGradient:
        """The gradient at x = ``at.x``."""


@dataclass(frozen=True)
class FirstOrder(Approximation):
    """x is taken to be optimal and constant: ∂_α ℓ(x, α) (Liu et al. 2019, ξ = 0).

    Example:
        >>> FirstOrder()
        FirstOrder()
    """

    def __call__(
        self, problem: bl.SharedProblem, theta: bl.Theta, at: Iterates, draw: Draw
    ) -> ArchitectureGradient:
        """One gradient of the upper level."""
        value, found = _upper(problem, theta, at.x.view(problem.shape), draw)
        found.pop("")
        return ArchitectureGradient(found, value, torch.zeros_like(at.v))


@dataclass(frozen=True)
class SecondOrder(Approximation):
    """Through one gradient step of the lower level (Liu et al. 2019, eqs (6)-(8)).

    Args:
        step: ξ, of the unrolled step.
        product: "exact" by double backward, or "differences": (8) of the paper, two more
            gradients by α at x ± ε ∇ℓ(x̃) with ε = ``radius``/‖∇ℓ(x̃)‖.
        radius: of the differences; 0.01 in the paper.

    Raises:
        InputError: an option out of range.

    Example:
        >>> SecondOrder(step=0.05).product
        'exact'
    """

    step: float
    product: str = "exact"
    radius: float = 0.01

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.step, "step")
        check_choice(self.product, ("exact", "differences"), "product")
        check_positive(self.radius, "radius")

    def __call__(
        self, problem: bl.SharedProblem, theta: bl.Theta, at: Iterates, draw: Draw
    ) -> ArchitectureGradient:
        """The gradient of α ↦ ℓ(x - ξ ∇J(x, α), α)."""
        x, named = at.x.view(problem.shape), algebra.leaves(theta)
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            loss = problem.lower.mean(point, named, draw.inner)
            exact = self.product == "exact"
            slope = torch.autograd.grad(loss, point, create_graph=exact)[0]
        problem.cost.gradient_evaluations += len(draw.inner)
        value, found = _upper(problem, theta, x - self.step * slope.detach(), draw)
        pull = found.pop("")
        if exact:
            cross = algebra.derivative((slope * pull).sum(), named)
            problem.cost.hvps += len(draw.inner)
        else:
            cross = self._differences(problem, theta, x, pull, draw)
        v = (-self.step * pull).view_as(at.v)
        return ArchitectureGradient(algebra.add(found, cross, -self.step), value, v)

    def _differences(
        self, problem: bl.SharedProblem, theta: bl.Theta, x: Tensor, pull: Tensor, draw: Draw
    ) -> bl.Theta:
        length = float(pull.norm())
        if length == 0:
            return {name: torch.zeros_like(value) for name, value in theta.items()}
        reach = self.radius / length

        def by_theta(point: Tensor) -> bl.Theta:
            named = algebra.leaves(theta)
            with torch.enable_grad():
                loss = problem.lower.mean(point, named, draw.inner)
            problem.cost.gradient_evaluations += len(draw.inner)
            return algebra.derivative(loss, named)

        difference = algebra.add(by_theta(x + reach * pull), by_theta(x - reach * pull), -1.0)
        return {name: value / (2 * reach) for name, value in difference.items()}


@dataclass(frozen=True)
class Implicit(Approximation):
    """From the implicit function theorem, v by conjugate gradients (Pedregosa 2016, (3)).

    Where the lower level is strongly convex and solved, and ``damping`` is zero, this is the
    gradient of the bilevel problem. Networks are neither: a direction of negative curvature ends
    the solve, and v is what was found until then.

    Args:
        max_steps: Hessian-vector products a gradient, about.
        damping: λ, added to the eigenvalues of the Hessian.
        rtol: of the linear system.
        warm: whether to start at the last v; zero otherwise.

    Raises:
        InputError: an option out of range.

    Example:
        >>> Implicit(max_steps=5).damping
        0.0
    """

    max_steps: int = 5
    damping: float = 0.0
    rtol: float = 1e-2
    warm: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.max_steps, "max_steps")
        check_nonnegative(self.damping, "damping")
        check_positive(self.rtol, "rtol")

    def __call__(
        self, problem: bl.SharedProblem, theta: bl.Theta, at: Iterates, draw: Draw
    ) -> ArchitectureGradient:
        """v by conjugate gradients, then the directions of the library."""
        x = at.x.view(problem.shape)
        pull = _upper(problem, theta, x, draw)[1][""].view(1, -1)
        v = cg(
            LinearMap.shared(_hessian(problem, theta, x, draw.inner, self.damping)),
            -pull,
            rtol=self.rtol,
            x0=at.v.view(1, -1) if self.warm else None,
            max_steps=self.max_steps,
        ).x.view_as(at.v)
        found = problem.directions(theta, Iterates(at.x, v), draw)
        return ArchitectureGradient(found.theta, found.value, v)


def _upper(
    problem: bl.SharedProblem, theta: bl.Theta, x: Tensor, draw: Draw
) -> tuple[float, bl.Theta]:
    """ℓ at x, with its derivatives by θ and, under the name "", by x."""
    point, named = x.detach().requires_grad_(), algebra.leaves(theta)
    with torch.enable_grad():
        loss = problem.upper.mean(point, named, draw.outer)
    problem.cost.gradient_evaluations += len(draw.outer)
    return float(loss.detach()), algebra.derivative(loss, {"": point, **named})


def _hessian(
    problem: bl.SharedProblem, theta: bl.Theta, x: Tensor, ids: Tensor, damping: float
) -> Callable[[Tensor], Tensor]:
    """v ↦ (∇²J + λI) v on rows (1, d), for samples ``ids``, linearised once."""
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        loss = problem.lower.mean(point, theta, ids)
        slope = torch.autograd.grad(loss, point, create_graph=True)[0].view(1, -1)
    problem.cost.gradient_evaluations += len(ids)

    def apply(v: Tensor) -> Tensor:
        problem.cost.hvps += len(ids)
        bent = torch.autograd.grad(slope, point, v, retain_graph=True)[0]
        return bent.view(1, -1) + damping * v

    return apply
