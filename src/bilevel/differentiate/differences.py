"""First-order hypergradients: differences of ∂_θJ between minimisers of J + s ℓ, with bounds."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import relative_residual, usable, with_bounds, with_estimate
from bilevel.differentiate.hypergradient import HyperGradient, Hypergradient
from bilevel.differentiate.perturbed import Perturbed
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows
from bilevel.ground.theta import Theta
from bilevel.linear import LinearMap, LinearSolution, minres
from bilevel.model.objective import Objective
from bilevel.solve import Solution, Solver, Status, Tolerance, minimise

__all__ = ["Chord", "DifferenceMethod", "chord_residual", "solve_perturbed", "strengths"]


@dataclass(frozen=True)
class Chord:
    """Two solutions near x, and the strength (b,) of ℓ by which they differ; 0 where ∇ℓ = 0."""

    a: Solution
    b: Solution
    span: Tensor


class DifferenceMethod(Hypergradient):
    """z = (∂_θJ(a) - ∂_θJ(b))/h between two points near x, without a single HVP.

    With q = (b - a)/h and the means H̄, B̄ of H and B over the segment, z = -B̄ᵀq and
    H̄ q = (∇J(b) - ∇J(a))/h hold exactly, wherever a and b lie. Hence, with the variation of H
    and B over a ball around x that holds both,

        ‖H(x) q - ∇ℓ(x)‖ <= ‖(∇J(b) - ∇J(a))/h - ∇ℓ(x)‖ + hessian,   ‖z + B(x)ᵀq‖ <= cross,

    so that the bound of the implicit method carries over. ``linear.residual`` is the first of
    these bounds, ``linear.status`` the worse of those of a and b.
    """

    @abstractmethod
    def chord(self, lower: Objective, upper: Upper, solution: Solution, rtol: Tensor) -> Chord:
        """The two points, solved so that they add at most ``rtol`` ‖∇ℓ‖ to the residual of q."""

    def __call__(
        self,
        lower: Objective,
        upper: Upper,
        solution: Solution,
        *,
        rtol: float | None = None,
        start: Tensor | None = None,
        estimate: bool = False,
    ) -> HyperGradient:
        """Hypergradient of the mean over rows; derivatives are taken in float64."""
        del start
        upper.check(solution.x)
        chord = self.chord(lower, upper, solution, relative_residual(upper, solution, rtol))
        span = torch.where(_status(chord) == Status.DIVERGED, 0.0, chord.span.double())
        inverse = torch.where(span > 0, 1 / span, 0.0)
        adjoint, cross = _secant(lower, upper, solution.x, chord, inverse)
        grad, noise = _difference(lower, chord, inverse)
        found = with_bounds(lower, upper, solution, adjoint, grad, cross + noise)
        refine = _roughly
        return with_estimate(found, lower, upper, solution, adjoint, refine) if estimate else found


def solve_perturbed(
    lower: Objective,
    upper: Upper,
    solution: Solution,
    strength: Tensor,
    solver: Solver[Any],
    residual: float,
    max_steps: int,
) -> Solution:
    """argmin J + s ℓ from the solution of s = 0, to that rms of the gradient."""
    objective = Perturbed(lower, upper, strength.to(solution.x))
    tol = Tolerance(residual=residual)
    return minimise(objective, solver, solution.x, tol=tol, max_steps=max_steps)


def strengths(lower: Objective, upper: Upper, x: Tensor, pull: float) -> Tensor:
    """s (b,) such that s ∇ℓ has rms ``pull``, at most half of what keeps J - s ℓ convex."""
    size = rows.rms(upper.grad(x)).double()
    strength = torch.where(size > 0, pull / size, 0.0)
    mu = lower.bounds.proved_mu()
    everywhere = torch.full_like(size, torch.inf)
    most = torch.where(mu > 0, mu / (2 * upper.lipschitz(x, everywhere)), torch.inf)
    return torch.minimum(strength, most)


def chord_residual(upper: Upper, x: Tensor, strength: Tensor, rtol: Tensor) -> float:
    """``rtol`` s times the rms of ∇ℓ, in the row that asks for least; any number if none asks."""
    asked = strength * rows.rms(upper.grad(x)).double() * rtol
    asked = asked[asked > 0]
    return float(asked.min()) if len(asked) else 1.0


def _status(chord: Chord) -> Tensor:
    return torch.maximum(chord.a.status, chord.b.status)


def _secant(
    lower: Objective, upper: Upper, x: Tensor, chord: Chord, inverse: Tensor
) -> tuple[LinearSolution, Tensor]:
    """q with a bound of its residual at x, and one of ‖z + B(x)ᵀq‖."""
    a, b, double = chord.a.x, chord.b.x, lower.double()
    wide = rows.expand(inverse, x)
    q = torch.where(wide > 0, (b - a) * wide.to(x), 0.0)
    radius = torch.maximum(rows.norm(a - x), rows.norm(b - x)).double()
    change = lower.variation(x, q, torch.where(inverse > 0, radius, 0.0))
    slope = wide * (double.grad(b.double()) - double.grad(a.double()))
    noise = inverse * (double.rounding(a.double()) + double.rounding(b.double()))
    miss = rows.norm(slope - upper.double().grad(x.double())) + noise
    steps, status = chord.a.steps + chord.b.steps, _status(chord)
    residual = (miss + change.hessian.double()).to(x)
    return usable(LinearSolution(q, residual, steps, status, 0)), change.cross.double()


def _difference(lower: Objective, chord: Chord, inverse: Tensor) -> tuple[Theta, Tensor]:
    """z, the mean over rows, and an allowance (b,) for its rounding."""
    double, count = lower.double(), len(inverse)
    ends = [torch.where(rows.expand(inverse, s.x) > 0, s.x, 0.0) for s in (chord.a, chord.b)]
    (above, plus), (below, minus) = (double.theta_grad(x.double(), inverse) for x in ends)
    grad = {k: ((plus[k] - minus[k]) / count).to(v) for k, v in lower.theta.items()}
    eps = torch.finfo(torch.float64).eps
    return grad, 16 * eps * inverse * (above.abs() + below.abs())


def _roughly(hessian: LinearMap, rhs: Tensor) -> LinearSolution:
    return minres(hessian, rhs, rtol=0.1)
