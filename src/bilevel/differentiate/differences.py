"""First-order hypergradients: differences of ∂_θJ between minimisers of J + s ℓ, with bounds."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bilevel.differentiate.adjoint import (
    relative_residual,
    roughly,
    usable,
    with_bounds,
    with_estimate,
)
from bilevel.differentiate.hypergradient import Asked, Method, UpperGradient
from bilevel.differentiate.perturbed import LossPull
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, add, norm
from bilevel.linear import LinearSolution
from bilevel.model.bounds import Variation
from bilevel.model.composite import CompositeObjective
from bilevel.model.kinds import by_kind
from bilevel.model.objective import Curved, Objective
from bilevel.model.saddle import SaddleObjective
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve import Solution, Solver, Status, Tolerance, minimise
from bilevel.solve.solvers import accelerated, frugal

__all__ = ["Chord", "DifferenceMethod", "strengths"]


@dataclass(frozen=True)
class Chord:
    """Two solutions near x, and the strength (b,) of ℓ by which they differ; 0 where ∇ℓ = 0."""

    a: Solution
    b: Solution
    span: Tensor


class DifferenceMethod(Method):
    """z = (∂_θJ(a) - ∂_θJ(b))/h between two points near x, without a single HVP.

    With q = (b - a)/h and the means H̄, B̄ of H and B over the segment, z = -B̄ᵀq and
    H̄ q = (∇J(b) - ∇J(a))/h hold exactly, wherever a and b lie. Hence, with the variation of H
    and B over a ball around x that holds both,

        ‖H(x) q - ∇ℓ(x)‖ <= ‖(∇J(b) - ∇J(a))/h - ∇ℓ(x)‖ + hessian,   ‖z + B(x)ᵀq‖ <= cross,

    so that the bound of the implicit method carries over. ``linear.residual`` is the first of
    these bounds, ``linear.status`` the worse of those of a and b. For J = f + h this is said of f,
    and :func:`_across_kinks` adds what h does; of a saddle objective nothing is proved.
    """

    solver: Solver[Any] | None
    max_steps: int

    @abstractmethod
    def ends(
        self, lower: Objective, upper: Upper, x: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """The strengths s (b,) of ℓ at a and at b.

        ``share`` multiplies the pull that the method would choose.
        """

    def chord(
        self, lower: Objective, upper: Upper, solution: Solution, rtol: Tensor, share: float
    ) -> Chord:
        """The two points, solved so that they add at most ``rtol`` ‖∇ℓ‖ to the residual of q."""
        x, (first, last) = solution.x, self.ends(lower, upper, solution.x, share)
        tol = Tolerance(residual=_chord_residual(upper, x, (first - last) / 2, rtol))

        def solved(strength: Tensor) -> Solution:
            objective = lower.plus(LossPull(upper, strength.to(x)))
            fits = accelerated if objective.bounds.smooth else frugal
            solver = fits(objective) if self.solver is None else self.solver
            return minimise(objective, solver, x, tol=tol, max_steps=self.max_steps)

        return Chord(solved(first), solved(last), first - last)

    def found(self, lower: Objective, asked: Asked) -> UpperGradient:
        """Hypergradient of the mean over rows; derivatives are taken in float64.

        Of a saddle objective half the pull estimates the error: no Hessian can tell.
        """
        upper, solution = asked.upper, asked.solution
        by_kind(lower, smooth=_either_way, composite=_either_way, saddle=_needs_convexity)
        accuracy = relative_residual(asked)
        found, adjoint = self._found(lower, upper, solution, accuracy, 1.0)
        if not asked.estimate:
            return found

        def refined(curved: Curved) -> UpperGradient:
            return with_estimate(found, curved, upper, solution, adjoint, roughly)

        def halved(saddle: SaddleObjective) -> UpperGradient:
            again, _ = self._found(saddle, upper, solution, accuracy, 0.5)
            return replace(found, estimate=2 * norm(add(found.grad, again.grad, -1.0)))

        return by_kind(lower, smooth=refined, composite=refined, saddle=halved)

    def _found(
        self, lower: Objective, upper: Upper, solution: Solution, rtol: Tensor, share: float
    ) -> tuple[UpperGradient, LinearSolution]:
        chord = self.chord(lower, upper, solution, rtol, share)
        span = torch.where(_status(chord) == Status.DIVERGED, 0.0, chord.span.double())
        inverse = torch.where(span > 0, 1 / span, 0.0)
        adjoint, cross = _secant(lower, upper, solution.x, chord, inverse)
        grad, noise = _difference(lower, chord, inverse)
        return with_bounds(lower, upper, solution, adjoint, grad, cross + noise), adjoint


def strengths(lower: Objective, upper: Upper, x: Tensor, pull: float, share: float = 1.0) -> Tensor:
    """s (b,) such that s ∇ℓ has rms ``pull``, at most half of what keeps J - s ℓ convex.

    Where ∇ℓ has no Lipschitz constant that is proved, its change near x is taken for one. All of
    it is multiplied by ``share``.
    """
    size = rows.rms(upper.grad(x)).double()
    strength = torch.where(size > 0, pull / size, 0.0)
    mu = lower.bounds.proved_mu()
    steep = upper.lipschitz(x, torch.full_like(size, torch.inf))
    if not bool(torch.isfinite(steep).all()):
        local = upper.steepness(x, 1e-2 * rows.length(x).clamp_min(1e-300))
        steep = torch.where(torch.isfinite(steep), steep, local)
    most = torch.where(mu > 0, mu / (2 * steep), torch.inf)
    return share * torch.minimum(strength, most)


def _chord_residual(upper: Upper, x: Tensor, strength: Tensor, rtol: Tensor) -> float:
    """``rtol`` s times the rms of ∇ℓ, in the row that asks for least; any number if none asks."""
    asked = strength * rows.rms(upper.grad(x)).double() * rtol
    asked = asked[asked > 0]
    return float(asked.min()) if len(asked) else 1.0


def _either_way(_: Curved) -> None:
    """Pulls that keep J convex are chosen by :func:`strengths`."""


def _needs_convexity(lower: SaddleObjective) -> None:
    if not bool((lower.bounds.proved_mu() > 0).all()):
        what = "differences of saddle problems need strong convexity, to pull both ways"
        raise InputError(what, advice="add regularisers.Tikhonov(1e-3), or use Piggyback()")


def _status(chord: Chord) -> Tensor:
    return torch.maximum(chord.a.status, chord.b.status)


def _secant(
    lower: Objective, upper: Upper, x: Tensor, chord: Chord, inverse: Tensor
) -> tuple[LinearSolution, Tensor]:
    """q with a bound of its residual at x, and one of ‖z + B(x)ᵀq‖."""
    wide = rows.expand(inverse, x)
    q = torch.where(wide > 0, (chord.b.x - chord.a.x) * wide.to(x), 0.0)

    def unknown(_: SaddleObjective) -> tuple[Tensor, Tensor, Tensor]:
        inf = torch.full_like(inverse, torch.inf)
        return q, inf, inf

    def smooth(f: SmoothObjective) -> tuple[Tensor, Tensor, Tensor]:
        miss, noise, change = _chord_errors(f, upper, x, chord, q, inverse)
        return q, rows.length(miss) + noise + change.hessian.double(), change.cross.double()

    def composite(j: CompositeObjective) -> tuple[Tensor, Tensor, Tensor]:
        miss, noise, change = _chord_errors(j.smooth, upper, x, chord, q, inverse)
        astray, drift = _across_kinks(j, x, (chord.a.x, chord.b.x), q, inverse)
        free, _ = j.proximable.pieces(x)
        stiffness = j.bounds.lipschitz
        held = torch.where(free, q, upper.grad(x) / rows.expand(stiffness.to(x), x))
        residual = rows.length(torch.where(free, miss, 0.0)) + noise + stiffness * astray
        if not j.smooth.accounted:
            drift = drift + torch.inf
        leap = torch.where(astray > 0, change.cross_norm.double() * astray, 0.0)
        return held, residual + change.hessian.double(), change.cross.double() + drift + leap

    found, residual, cross = by_kind(lower, smooth=smooth, composite=composite, saddle=unknown)
    steps, status = chord.a.steps + chord.b.steps, _status(chord)
    return usable(LinearSolution(found, residual.to(x), steps, status, 0)), cross


def _chord_errors(
    f: SmoothObjective, upper: Upper, x: Tensor, chord: Chord, q: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Variation]:
    """By how much the chord's slope misses ∇ℓ(x), an allowance for it, and how f varies there."""
    a, b, double = chord.a.x, chord.b.x, f.double()
    radius = torch.maximum(rows.length(a - x), rows.length(b - x)).double()
    change = f.variation(x, q, torch.where(inverse > 0, radius, 0.0))
    slope = rows.expand(inverse, x) * (double.grad(b.double()) - double.grad(a.double()))
    noise = inverse * (double.rounding(a.double()) + double.rounding(b.double()))
    return slope - upper.double().grad(x.double()), noise, change


def _across_kinks(
    lower: CompositeObjective, x: Tensor, ends: tuple[Tensor, Tensor], q: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """‖q‖ in pixels that x holds on a kink, and what h adds to ‖z + B(x)ᵀq‖; (b,) each.

    Both are 0 if a, b and x are on the same pieces of h: w ‖· - c‖₁ is then linear from a to b.
    """
    free, _ = lower.proximable.pieces(x)
    astray = rows.length(torch.where(free, 0.0, q))
    distance = lower.double().proximable.distance
    if distance is None:
        return astray, torch.zeros_like(astray)
    centre, wide = distance.centre, rows.expand(inverse, x)
    a, b = (end.double() for end in ends)
    side = torch.where(free, (x.double() - centre).sign(), 0.0)
    bend = wide * ((b - centre).abs() - (a - centre).abs() - side * (b - a))
    return astray, lower.steepness * bend.flatten(1).sum(1).abs()


def _difference(lower: Objective, chord: Chord, inverse: Tensor) -> tuple[Theta, Tensor]:
    """z, the mean over rows, and an allowance (b,) for its rounding."""
    double, count = lower.double(), len(inverse)
    wide = rows.expand(inverse, chord.a.x)
    ends = [lower.project(torch.where(wide > 0, s.x, 0.0)) for s in (chord.a, chord.b)]
    (above, plus), (below, minus) = (double.theta_grad(x.double(), inverse) for x in ends)
    grad = {k: ((plus[k] - minus[k]) / count).to(v) for k, v in lower.theta.items()}
    eps = torch.finfo(torch.float64).eps
    return grad, 16 * eps * inverse * (above.abs() + below.abs())
