"""Nesterov's accelerated gradient descent: strongly convex or not, with or without a known L."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_choice, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.fused import fused
from bilevel.ground.momentum import momentum
from bilevel.model.smooth import Summand
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solver import Solver

__all__ = ["Nesterov"]


@dataclass(frozen=True)
class NesterovState:
    """Last two points, momentum t, the L of the last step and of the next one; per row."""

    x: Tensor
    previous: Tensor
    t: Tensor
    lipschitz: Tensor
    trial: Tensor
    mu: Tensor


@dataclass(frozen=True)
class Nesterov(Solver[NesterovState]):
    """Accelerated gradient descent.

    Accelerated gradient descent (Nesterov 1983; strongly convex: Chambolle and Pock 2016).

    With q = mu/L, momentum t_{k+1} = (1 - q t_k² + √((1 - q t_k²)² + 4 ρ t_k²))/2 and
    β = (t_k - 1)(1 - q t_{k+1})/(t_{k+1}(1 - q)), where ρ is the ratio of successive L; then
    J(x_k) - J* <= min{(1 + √q)(1 - √q)^k, 4/(k+1)²} (L/2)‖x_0 - x̂‖² for a constant L.

    Args:
        momentum: "automatic" uses the proved mu, "convex" does as if it were 0,
            "strongly convex" insists on a proved mu > 0.
        restart: start the momentum anew when it points uphill (O'Donoghue and Candès 2015).
        backtracking: search for L, and let it decrease again (Calatroni and Chambolle 2019,
            Algorithm 1); None means only where no L is declared.
        first_lipschitz: first guess of L for backtracking where none is declared.

    Raises:
        InputError: no Lipschitz constant without backtracking, or no mu where insisted on.

    Example:
        >>> Nesterov(momentum="convex").restart
        True
    """

    momentum: Literal["automatic", "convex", "strongly convex"] = "automatic"
    restart: bool = True
    backtracking: bool | None = None
    first_lipschitz: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        check_choice(self.momentum, ("automatic", "convex", "strongly convex"), "momentum")
        check_positive(self.first_lipschitz, "first_lipschitz")

    def init(self, objective: SmoothObjective, x: Tensor) -> NesterovState:
        """No momentum yet."""
        lipschitz, mu = objective.bounds.lipschitz, objective.bounds.proved_mu()
        known = torch.isfinite(lipschitz)
        if self.backtracking is False and not bool(known.all()):
            advice = "override bounds() or allow backtracking"
            raise InputError("Nesterov needs a Lipschitz constant", advice=advice)
        if self.momentum == "strongly convex" and not bool((mu > 0).all()):
            advice = "add regularisers.Tikhonov(1e-3) or use momentum='automatic'"
            raise InputError("no strong convexity is proved for this energy", advice=advice)
        if self.momentum == "convex":
            mu = torch.zeros_like(mu)
        first = torch.where(known, lipschitz, self.first_lipschitz).clamp_min(1e-30).to(x.dtype)
        other = x.clone()  # one tensor given twice would be compiled as another case
        return NesterovState(x, other, torch.ones_like(first), first, first, mu.to(x.dtype))

    def step(self, objective: SmoothObjective, state: NesterovState) -> NesterovState:
        """One gradient evaluation, and two values when L is searched."""
        searches = self._searches(objective)
        summands = None if searches else objective.summands(state.x)
        if summands is not None:
            memory = state.x, state.previous, state.t, state.trial, state.mu
            x, t = _whole_step(summands, *memory, self.restart)
            return NesterovState(x, state.x, t, state.trial, state.trial, state.mu)
        growth = state.trial / state.lipschitz
        t, z = _extrapolated(state.x, state.previous, state.t, growth, state.mu / state.trial)
        slope = objective.grad(z)
        x, t = _descended(z, slope, state.x, t, state.trial, self.restart)
        taken = NesterovState(x, state.x, t, state.trial, state.trial, state.mu)
        return self._searched(objective, state, taken, z, slope) if searches else taken

    def _searches(self, objective: SmoothObjective) -> bool:
        return not objective.bounds.smooth if self.backtracking is None else self.backtracking

    @staticmethod
    def _searched(
        objective: SmoothObjective,
        state: NesterovState,
        taken: NesterovState,
        z: Tensor,
        slope: Tensor,
    ) -> NesterovState:
        """Keep the step in rows where L was large enough there; elsewhere try twice that L."""
        move = taken.x - z
        before, after = objective.value(z), objective.value(taken.x)
        noise = 16 * torch.finfo(z.dtype).eps * (before.abs() + after.abs())
        model = before + rows.inner(slope, move) + state.trial / 2 * rows.inner(move, move)
        enough = after <= model + noise
        eased, missed = 0.9 * state.trial, replace(state, trial=2 * state.trial)
        return rows.choose(enough, replace(taken, trial=eased), missed)


@fused
def _extrapolated(
    x: Tensor, previous: Tensor, t: Tensor, growth: Tensor | float, q: Tensor
) -> tuple[Tensor, Tensor]:
    """The next momentum, and the point that the present one leads to."""
    following, beta = momentum(t, q.clamp_max(1 - 1e-3), growth)
    return following, x + rows.expand(beta, x) * (x - previous)


@fused
def _descended(
    z: Tensor, slope: Tensor, x: Tensor, t: Tensor, lipschitz: Tensor, restart: bool
) -> tuple[Tensor, Tensor]:
    """The step from z, and the momentum, anew where it points uphill."""
    new = z - slope / rows.expand(lipschitz, z)
    if restart:
        along = (slope * (new - x)).sum(-1).flatten(1).sum(1)
        t = torch.where(along > 0, 1.0, t)
    return new, t


@fused
def _whole_step(
    summands: tuple[Summand, ...],
    x: Tensor,
    previous: Tensor,
    t: Tensor,
    lipschitz: Tensor,
    mu: Tensor,
    restart: bool,
) -> tuple[Tensor, Tensor]:
    t, z = _extrapolated(x, previous, t, 1.0, mu / lipschitz)
    first, *others = [pull(z, *arguments) for pull, arguments in summands]
    for other in others:
        first = first + other
    return _descended(z, first, x, t, lipschitz, restart)
