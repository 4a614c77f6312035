"""FISTA: accelerated proximal gradient steps for a smooth term plus a proximable one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.momentum import momentum
from bilevel.model.composite import CompositeObjective
from bilevel.model.objective import Objective
from bilevel.solve.solver import Solver, curvature_range

__all__ = ["FISTA"]


@dataclass(frozen=True)
class FISTAState:
    """Last two points, momentum t, step 1/L and mu/L; per row."""

    x: Tensor
    previous: Tensor
    t: Tensor
    step: Tensor
    q: Tensor


@dataclass(frozen=True)
class FISTA(Solver[FISTAState]):
    """Proximal gradients with momentum: for a box, positivity, or one absolute value.

    x⁺ = prox_{h/L}(z - ∇f(z)/L) with momentum (Beck and Teboulle 2009).

    One gradient a step. As in Chambolle and Pock 2016, with q = mu/L,
    t_{k+1} = (1 - q t_k² + √((1 - q t_k²)² + 4 t_k²))/2,
    β_k = (t_k - 1)(1 - q t_{k+1})/(t_{k+1}(1 - q)), and without restarts
    J(x_k) - J* <= min{(1 + √q)(1 - √q)^k, 4/(k+1)²} (L/2)‖x_0 - x̂‖² (ibid., Theorem 4.10).

    Args:
        restart: start the momentum anew when it points uphill (O'Donoghue and Candès 2015).

    Raises:
        InputError: an objective that is not composite, or no Lipschitz constant of ∇f.

    Example:
        >>> FISTA().restart
        True
    """

    takes: ClassVar[type[Objective]] = CompositeObjective

    restart: bool = True

    def init(self, objective: CompositeObjective, x: Tensor) -> FISTAState:
        """No momentum yet."""
        lipschitz, mu = curvature_range(objective, "FISTA", "override bounds()")
        lipschitz = lipschitz.clamp_min(1e-30)
        q = (mu / lipschitz).clamp_max(1 - 1e-3).to(x.dtype)
        return FISTAState(x, x, torch.ones_like(q), (1 / lipschitz).to(x.dtype), q)

    def step(self, objective: CompositeObjective, state: FISTAState) -> FISTAState:
        """One gradient of f, one prox of h."""
        t, beta = momentum(state.t, state.q)
        z = state.x + rows.expand(beta, state.x) * (state.x - state.previous)
        step = rows.expand(state.step, z)
        x = objective.proximable.prox(z - step * objective.smooth.grad(z), state.step)
        if self.restart:
            uphill = rows.inner(z - x, x - state.x) > 0
            t = torch.where(uphill, 1.0, t)
        return FISTAState(x, state.x, t, state.step, state.q)
