"""PDHG: primal and dual steps in turn, for exact total variation and other dual terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.errors import InputError
from bilevel.ground.fused import fused
from bilevel.model.group_norm import GroupNorm
from bilevel.model.objective import Objective
from bilevel.model.proximable import Proximable
from bilevel.model.saddle import Dual, SaddleObjective
from bilevel.model.smooth import Summand
from bilevel.solve.solver import Solver

__all__ = ["PDHG"]

Rates = tuple[Tensor, Tensor, Tensor, Tensor]  # τ, mu, γ, ρ
LEAST_STEP = 3e-3  # γ τ where acceleration ends


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
    """Primal and dual steps in turn, with a proved gap: for exact total variation.

    Primal-dual hybrid gradients (Chambolle and Pock 2011, 2016; Condat 2013), over-relaxed.

    With f strongly convex (mu > 0) and r = ∇f(x) + Σ A_jᵀp_j, one step is

        x⁺ = prox_{t h}(x - t r),  t = τ/(1 + τ mu),
        p_j⁺ = prox_{σ_j F_j*}(p_j + σ_j A_j (x⁺ + θ (x⁺ - x))),  θ = 1/√(1 + 2 γ τ),

    τ then being multiplied by θ and σ divided by it, as long as γ τ >= 0.003.
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

    takes: ClassVar[type[Objective]] = SaddleObjective

    relaxation: float = 1.9
    acceleration: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if self.acceleration is not None and not 0 <= self.acceleration <= 1:
            raise InputError("acceleration must lie in [0, 1]", given=self.acceleration)
        if not 1 <= self.relaxation < 2:
            raise InputError("relaxation must lie in [1, 2)", given=self.relaxation)

    def init(self, objective: SaddleObjective, x: Tensor) -> PDHGState:
        """Dual variables from the subgradients at x; steps from the sizes of x and p."""
        bounds = objective.bounds
        if not bool(torch.isfinite(bounds.lipschitz).all() and objective.convex.all()):
            what = "PDHG needs convex terms, and a convex smooth part with a Lipschitz constant"
            advice = "override bounds(), use a convex regulariser, or solvers.ADMM()"
            raise InputError(what, advice=advice)
        mu = bounds.proved_mu()
        lipschitz = (bounds.lipschitz - mu).clamp_min(0.0)
        lipschitz = torch.where(lipschitz <= 1e-9 * mu, 0.0, lipschitz)
        contrast, norms = _contrast(objective.start(), x), objective.norms(x)
        weights = [term.largest(x) for term in objective.terms]
        sigmas = [w / (n * contrast) for w, n in zip(weights, norms, strict=True)]
        total = torch.stack([s * n**2 for s, n in zip(sigmas, norms, strict=True)]).sum(0)
        tau = 1 / (lipschitz + total)
        relaxation = torch.where(lipschitz > 0, min(self.relaxation, 1.45), self.relaxation)
        dual = objective.dual(x)
        return PDHGState(
            x=x,
            dual=dual,
            relaxed=x,
            relaxed_dual=dual,
            tau=tau.to(x),
            sigmas=tuple((s * tau).to(x) for s in sigmas),
            mu=mu.to(x),
            gamma=(self._acceleration(objective) * mu).to(x),
            relaxation=relaxation.to(x),
        )

    def _acceleration(self, saddle: SaddleObjective) -> float:
        if self.acceleration is not None:
            return self.acceleration
        return 0.3 if all(term.group == 1 for term in saddle.terms) else 1.0

    def dual(self, state: PDHGState) -> Dual:
        """The dual variables of the last step."""
        return state.dual

    def step(self, objective: SaddleObjective, state: PDHGState) -> PDHGState:
        """One gradient of f, one application of every A_j and of its adjoint."""
        rates = state.tau, state.mu, state.gamma, state.relaxation
        summands = objective.smooth_summands(state.x)
        if summands is not None:
            pair = state.relaxed, state.relaxed_dual
            found = _whole_step(
                summands, objective.proximable, objective.terms, *pair, state.sigmas, rates
            )
            x, relaxed, tau, dual, relaxed_dual = found
        else:
            r = objective.smooth.grad(state.relaxed) + objective.adjoint(state.relaxed_dual)
            x, ahead, relaxed, tau = _descended(objective.proximable, r, state.relaxed, rates)
            climb = state.relaxed_dual, objective.analyse(ahead), state.sigmas
            dual, relaxed_dual = _ascended(objective.terms, *climb, tau, state.relaxation)
        return replace(state, x=x, dual=dual, relaxed=relaxed, relaxed_dual=relaxed_dual, tau=tau)


@fused
def _descended(
    proximable: Proximable, r: Tensor, relaxed: Tensor, rates: Rates
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The next x, the point that the dual step looks at, the next relaxed point, the next τ."""
    tau, mu, gamma, relaxation = rates
    step = tau / (1 + mu * tau)
    x = proximable.prox(torch.addcmul(relaxed, rows.expand(-step, r), r), step)
    growth = gamma * tau
    theta = torch.where(growth > LEAST_STEP, (1 + 2 * growth).rsqrt(), 1.0)
    ahead = torch.lerp(relaxed, x, rows.expand(1 + theta, x))
    return x, ahead, torch.lerp(relaxed, x, rows.expand(relaxation, x)), theta * tau


@fused
def _ascended(
    terms: Sequence[GroupNorm],
    relaxed: Dual,
    images: Dual,
    sigmas: Dual,
    tau: Tensor,
    relaxation: Tensor,
) -> tuple[Dual, Dual]:
    """The next p and the next relaxed p."""
    dual = tuple(
        term.ascend(p, image, sigma / tau)
        for term, p, image, sigma in zip(terms, relaxed, images, sigmas, strict=True)
    )
    pairs = zip(relaxed, dual, strict=True)
    return dual, tuple(torch.lerp(old, p, rows.expand(relaxation, p)) for old, p in pairs)


@fused
def _whole_step(
    summands: tuple[Summand, ...],
    proximable: Proximable,
    terms: tuple[GroupNorm, ...],
    relaxed: Tensor,
    relaxed_dual: Dual,
    sigmas: Dual,
    rates: Rates,
) -> tuple[Tensor, Tensor, Tensor, Dual, Dual]:
    r = terms[0].adjoint(relaxed_dual[0])
    for term, p in zip(terms[1:], relaxed_dual[1:], strict=True):
        r = r + term.adjoint(p)
    for pull, arguments in summands:
        r = r + pull(relaxed, *arguments)
    x, ahead, on, tau = _descended(proximable, r, relaxed, rates)
    images = tuple(term.forward(ahead) for term in terms)
    dual, on_dual = _ascended(terms, relaxed_dual, images, sigmas, tau, rates[-1])
    return x, on, tau, dual, on_dual


def _contrast(start: Tensor, x: Tensor) -> Tensor:
    """How far x may have to go, (b,) [grey value]."""
    flat = start - start.mean((1, 2, 3), keepdim=True)
    far = torch.maximum(rows.rms(flat), rows.rms(x - start)).double()
    return torch.where(far > 0, far, 1.0)
