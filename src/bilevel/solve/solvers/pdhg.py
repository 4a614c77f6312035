"""PDHG: primal and dual steps in turn, for exact total variation and other dual terms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.model.objective import Objective
from bilevel.model.saddle import Dual, SaddleObjective
from bilevel.solve.solver import Solver

__all__ = ["PDHG"]

LEAST_STEP = 1e-5  # γ τ where acceleration ends


@dataclass(frozen=True)
class PDHGState:
    """The last images of the steps, x and ``dual``; the relaxed point they started from; steps.

    ``tau`` is the primal step, ``sigmas`` the dual ones times ``tau``, ``relaxation`` ρ.
    """

    x: Tensor
    dual: Dual
    relaxed: Tensor
    relaxed_dual: Dual
    tau: Tensor
    sigmas: Dual
    mu: Tensor
    gamma: Tensor
    relaxation: Tensor


@dataclass(frozen=True)
class PDHG(Solver[PDHGState]):
    """Primal-dual hybrid gradients (Chambolle and Pock 2011, 2016; Condat 2013), over-relaxed.

    With f strongly convex (mu > 0) and r = ∇f(x) + Σ A_jᵀp_j, one step is

        x⁺ = prox_{t h}(x - t r),  t = τ/(1 + τ mu),
        p_j⁺ = prox_{σ_j F_j*}(p_j + σ_j A_j (x⁺ + θ (x⁺ - x))),  θ = 1/√(1 + 2 γ τ),

    τ then being multiplied by θ and σ divided by it, as long as γ τ >= 1e-5.
    The step is mu/2 ‖·‖² moved from f to h, and τ (L - mu + Σ σ_j ‖A_j‖²) <= 1 holds with
    proved norms. (x, p) then goes on by ρ times the step. For a constant τ this converges (Condat
    2013); with acceleration and ρ = 1, ‖x_k - x̂‖² = O(1/k²) (Chambolle and Pock 2011). For both
    together no rate is known to us: only the certificate tells.

    Args:
        relaxation: ρ in [1, 2), lowered to 1.45 where f is more than mu/2 ‖· - a‖²
            (Condat 2013).
        acceleration: γ/mu in [0, 1], 0 for constant steps; None means 1, but 0.3 for absolute
            values alone (measured: fewer steps).

    Raises:
        InputError: an objective without dual terms, no Lipschitz constant, an f not proved convex.

    Example:
        >>> PDHG().relaxation
        1.9
    """

    relaxation: float = 1.9
    acceleration: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if self.acceleration is not None and not 0 <= self.acceleration <= 1:
            raise InputError("acceleration must lie in [0, 1]", given=self.acceleration)
        if not 1 <= self.relaxation < 2:
            raise InputError("relaxation must lie in [1, 2)", given=self.relaxation)

    def init(self, objective: Objective, x: Tensor) -> PDHGState:
        """Dual variables from the subgradients at x; steps from the sizes of x and p."""
        saddle = _saddle(objective)
        bounds = saddle.bounds
        if not bool(torch.isfinite(bounds.lipschitz).all() and saddle.convex.all()):
            what = "PDHG needs a convex smooth part with a Lipschitz constant"
            raise InputError(what, advice="override bounds(), or use a convex regulariser")
        mu = bounds.proved_mu()
        lipschitz = (bounds.lipschitz - mu).clamp_min(0.0)
        lipschitz = torch.where(lipschitz <= 1e-9 * mu, 0.0, lipschitz)
        contrast, norms = _contrast(saddle.start(), x), saddle.norms(x)
        weights = [float(term.weight.detach().max()) for term in saddle.terms]
        sigmas = [w / (n * contrast) for w, n in zip(weights, norms, strict=True)]
        total = torch.stack([s * n**2 for s, n in zip(sigmas, norms, strict=True)]).sum(0)
        tau = 1 / (lipschitz + total)
        relaxation = torch.where(lipschitz > 0, min(self.relaxation, 1.45), self.relaxation)
        dual = saddle.dual(x)
        return PDHGState(
            x=x,
            dual=dual,
            relaxed=x,
            relaxed_dual=dual,
            tau=tau.to(x),
            sigmas=tuple((s * tau).to(x) for s in sigmas),
            mu=mu.to(x),
            gamma=(self._acceleration(saddle) * mu).to(x),
            relaxation=relaxation.to(x),
        )

    def _acceleration(self, saddle: SaddleObjective) -> float:
        if self.acceleration is not None:
            return self.acceleration
        return 0.3 if all(term.group == 1 for term in saddle.terms) else 1.0

    def dual(self, state: PDHGState) -> Dual:
        """The dual variables of the last step."""
        return state.dual

    def step(self, objective: Objective, state: PDHGState) -> PDHGState:
        """One gradient of f, one application of every A_j and of its adjoint."""
        saddle = _saddle(objective)
        r = saddle.smooth.grad(state.relaxed) + saddle.adjoint(state.relaxed_dual)
        step = state.tau / (1 + state.mu * state.tau)
        x = saddle.simple.prox(torch.addcmul(state.relaxed, rows.expand(-step, r), r), step)
        growth = state.gamma * state.tau
        theta = torch.where(growth > LEAST_STEP, (1 + 2 * growth).rsqrt(), 1.0)
        tau = theta * state.tau
        ahead = torch.lerp(state.relaxed, x, rows.expand(1 + theta, x))
        dual = tuple(
            term.ascend(p, image, sigma / tau)
            for term, p, image, sigma in zip(
                saddle.terms, state.relaxed_dual, saddle.analyse(ahead), state.sigmas, strict=True
            )
        )
        rho = rows.expand(state.relaxation, x)
        relaxed = torch.lerp(state.relaxed, x, rho)
        relaxed_dual = tuple(
            torch.lerp(old, new, rho) for old, new in zip(state.relaxed_dual, dual, strict=True)
        )
        return replace(state, x=x, dual=dual, relaxed=relaxed, relaxed_dual=relaxed_dual, tau=tau)


def _saddle(objective: Objective) -> SaddleObjective:
    if not isinstance(objective, SaddleObjective):
        what = "PDHG minimises energies with exact total variation or another dual term"
        raise InputError(f"{what}, and this one has none", advice=f"use {objective.fitting}")
    return objective


def _contrast(start: Tensor, x: Tensor) -> Tensor:
    """How far x may have to go, (b,) [grey value]."""
    flat = start - start.mean((1, 2, 3), keepdim=True)
    far = torch.maximum(rows.rms(flat), rows.rms(x - start)).double()
    return torch.where(far > 0, far, 1.0)
