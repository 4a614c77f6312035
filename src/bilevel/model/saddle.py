"""J = f + h + Σ_j F_j(A_j x): minimised together with a dual variable for each F_j."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.fused import fused
from bilevel.model.bounds import Provenance
from bilevel.model.composite import NonSmoothObjective
from bilevel.model.group_norm import GroupNorm
from bilevel.model.proximable import Proximable
from bilevel.model.smooth import Pull, Summand
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.model.split import Split

__all__ = ["Dual", "Gap", "SaddleObjective"]

Dual = tuple[Tensor, ...]
"""One variable p_j for each term, in the shape of A_j x."""


@dataclass(frozen=True)
class Gap:
    """What a pair (x, p) proves about x; (b,) float64 except ``slope``.

    Attributes:
        gap: J(x) - min J <= gap + allowance; inf where nothing is proved.
        allowance: for rounding.
        slope: (b, c, h, w), a ``slack``-subgradient of J at x: J(u) >= J(x) + ⟨slope, u - x⟩ -
            slack for every u.
        slack: ε of that ε-subgradient.
        rounding: allowance for the norm of ``slope``.
        loose: allowance for ``slack``.
    """

    gap: Tensor
    allowance: Tensor
    slope: Tensor
    slack: Tensor
    rounding: Tensor
    loose: Tensor


@dataclass(frozen=True)
class SaddleObjective(NonSmoothObjective):
    """J = f + h + Σ_j F_j(A_j x), and the gap between J(x) and a lower bound from p.

    ``lower`` and ``upper`` (b, 1, 1, 1) bound the pixels of some minimiser; infinite if unknown.
    """

    terms: tuple[GroupNorm, ...]
    lower: Tensor
    upper: Tensor

    @property
    def fitting(self) -> str:
        """The solver for it."""
        return "solvers.PDHG()" if all(t.convex for t in self.terms) else "solvers.ADMM()"

    @staticmethod
    def of(smooth: SmoothObjective, split: Split) -> SaddleObjective:
        """``smooth`` and the other terms of ``split``."""
        whole = torch.full((len(smooth.y), 1, 1, 1), torch.inf).to(smooth.y)
        lower = -whole if split.lower is None else split.lower
        upper = whole if split.upper is None else split.upper
        proximable = Proximable() if split.proximable is None else split.proximable
        return SaddleObjective(smooth, proximable, split.dual, lower, upper)

    def plus(self, pull: Pull) -> SaddleObjective:
        """With one more term in f, whose minimisers may be anywhere."""
        whole = torch.full_like(self.lower, torch.inf)
        return replace(super().plus(pull), lower=-whole, upper=whole)

    def _with(self, smooth: SmoothObjective, split: Split) -> SaddleObjective:
        """Within the same bounds."""
        lower, upper = self.lower.to(smooth.y), self.upper.to(smooth.y)
        return SaddleObjective(smooth, self._boxed(split), split.dual, lower, upper)

    def value(self, x: Tensor) -> Tensor:
        """J(x), (b,)."""
        total = self.smooth.value(x) + self.proximable.value(x)
        for term, image in zip(self.terms, self.analyse(x), strict=True):
            total = total + term.value(image)
        return total

    def smooth_summands(self, x: Tensor) -> tuple[Summand, ...] | None:
        """Those of ∇f, where every A_j can be compiled too; each then counts as applied once."""
        if not all(term.operator.pure for term in self.terms):
            return None
        found = self.smooth.summands(x)
        if found is not None:
            self.smooth.cost.operator_applications += 2 * len(x) * len(self.terms)
        return found

    def analyse(self, x: Tensor) -> Dual:
        """A_j x for every j."""
        self.smooth.cost.operator_applications += len(x) * len(self.terms)
        return tuple(term.forward(x) for term in self.terms)

    def adjoint(self, p: Dual) -> Tensor:
        """Σ_j A_jᵀ p_j."""
        self.smooth.cost.operator_applications += len(p[0]) * len(p)
        total = self.terms[0].adjoint(p[0])
        for term, further in zip(self.terms[1:], p[1:], strict=True):
            total = total + term.adjoint(further)
        return total

    def norms(self, x: Tensor) -> list[float]:
        """Proved upper bounds of ‖A_j‖ for images like ``x``; positive, even for A_j = 0."""
        shape = x.shape[1], x.shape[2], x.shape[3]
        return [max(term.norm(shape), 1e-12) for term in self.terms]

    def dual(self, x: Tensor) -> Dual:
        """A subgradient of every F_j at A_j x, the first guess of p."""
        images = self.analyse(x)
        return tuple(term.polar(t) for term, t in zip(self.terms, images, strict=True))

    def gap(self, x: Tensor, p: Dual) -> Gap:
        """J(x) - min J <= gap, for any x in the box and any p (made feasible first).

        With r = ∇f(x) + Σ A_jᵀp_j and f(u) >= f(x) + ⟨∇f(x), u - x⟩ + mu/2 ‖u - x‖²,

            J(u) >= J(x) - Σ_j [F_j(A_j x) + F_j*(p_j) - ⟨A_j x, p_j⟩]
                    + ⟨r, u - x⟩ + mu/2 ‖u - x‖² + h(u) - h(x);

        the minimum over u is a formula. For f = mu/2 ‖x - y‖² this is Fenchel's duality gap. No
        large values are subtracted where the operators are faithful and nothing is shifted; the
        allowance is made of what is, never of what is left.
        """
        p = tuple(term.feasible(part) for term, part in zip(self.terms, p, strict=True))
        slack = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        loose = torch.zeros_like(slack)
        for term, image, part in zip(self.terms, self.analyse(x), p, strict=True):
            own, value = term.slack(image, part)
            slack, loose = slack + own, loose + term.rounding(x, image, value)
        r = self.smooth.grad(x) + self.adjoint(p)
        rounding = self.rounding(x)
        eps = torch.finfo(x.dtype).eps
        for term, norm, part in zip(self.terms, self.norms(x), p, strict=True):
            errors = 4 + term.operator.roundings
            rounding = rounding + errors * eps * norm * rows.length(part)
        drop, doubt = self._drop(x, r, rounding)
        gap = torch.where(self.convex, slack + drop, torch.inf)
        slope = self.proximable.least(x, r)
        return Gap(gap, loose + doubt, slope, slack, rounding, loose)

    @property
    def convex(self) -> Tensor:
        """Whether f is proved convex and every F_j is, (b,) bool."""
        proved = self.bounds.mu_from is Provenance.PROVED
        return (self.bounds.mu >= 0) & proved & all(term.convex for term in self.terms)

    def primal(self, x: Tensor, p: Dual) -> Tensor:
        """argmin_u ⟨r, u⟩ + mu/2 ‖u - x‖² + h(u), r as in :meth:`gap`; needs mu > 0, p feasible.

        For f = mu/2 ‖· - y‖² it depends on p alone, and is as accurate as p.
        """
        return self._lowest(x, self.smooth.grad(x) + self.adjoint(p))

    def _lowest(self, x: Tensor, r: Tensor) -> Tensor:
        step = (1 / self.bounds.proved_mu()).to(r)
        return self.proximable.prox(x - rows.expand(step, r) * r, step)

    def _drop(self, x: Tensor, r: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
        """max_u -⟨r, u - x⟩ - mu/2 ‖u - x‖² + h(x) - h(u), and an allowance for its error.

        It is made of the sizes of h and ⟨r, u - x⟩, of the error of r times the Lipschitz constant
        in r, and of what a rounded u may miss of the maximum, mu/2 times the square of its error.
        """
        mu, eps = self.bounds.proved_mu(), torch.finfo(x.dtype).eps
        if bool((mu > 0).all()):
            u = self._lowest(x, r)
            move = u - x
            far = rows.length(move)
            curve, error = mu / 2 * far.square(), rows.length(x) + self.proximable.reach(x)
            error = 8 * eps * (error + far + rows.length(r) / mu)
            missed, far = mu * error.square(), far + rounding / mu
        else:
            least, most = self.proximable.ends(x)
            lower, upper = self.lower.clamp_min(least), self.upper.clamp_max(most)
            u = self.proximable.lowest(x, r, lower, upper)
            move = u - x
            far = rows.length(torch.maximum(x - lower, upper - x))
            curve = missed = torch.zeros_like(far)
        gain, size = _gain(self.proximable.sizes(x), self.proximable.sizes(u), r, move)
        inside = torch.isfinite(far) & self.proximable.holds(x)
        doubt = 16 * eps * (size + curve) + missed + rounding * far
        return torch.where(inside, (gain - curve).clamp_min(0.0), torch.inf), doubt

    def rows(self, index: Tensor) -> SaddleObjective:
        """The rows ``index`` alone."""
        return replace(
            self,
            smooth=self.smooth.rows(index),
            proximable=self.proximable.rows(index),
            terms=tuple(term.rows(index) for term in self.terms),
            lower=self.lower[index],
            upper=self.upper[index],
        )


@fused
def _gain(here: Tensor, there: Tensor, r: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    """Σ here - there - r move, and the sum of their sizes."""
    pull = r * move
    return _total(here - there - pull), _total(here + there + pull.abs())


def _total(a: Tensor) -> Tensor:
    return a.sum(-1, dtype=torch.float64).flatten(1).sum(1)
